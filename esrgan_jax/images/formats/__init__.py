"""The structure of single file formats, as far as libvips does not know it."""
