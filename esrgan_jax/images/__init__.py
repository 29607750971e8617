"""Image files: reading and writing strip by strip, with their metadata."""
