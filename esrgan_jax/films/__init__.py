"""Films through PyAV, frame by frame."""
