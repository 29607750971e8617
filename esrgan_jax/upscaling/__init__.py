"""A generator applied to images: on the device, in tiles, from strips of rows to strips."""
