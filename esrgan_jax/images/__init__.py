"""Image files: reading and writing, strip by strip, with what they say about themselves."""
