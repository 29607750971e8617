"""Training data: sources of images, crops, and the Grain pipeline."""
