"""What the upscale command adds to `upscaling`: which files, in which order, and the report."""
