"""Between a generator and picture files: tiles, strips, devices."""
