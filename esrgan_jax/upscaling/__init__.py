"""Upscales images with a generator: tiles, batches, and the step on the device."""
