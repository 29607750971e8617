"""What the upscale command does with files: which ones, in which order, and what it reports."""
