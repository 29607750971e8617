"""Applies a generator to images: tiles, batches, and the step on the device."""
