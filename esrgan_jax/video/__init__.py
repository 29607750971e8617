"""Videos: reading and writing through PyAV, and going on after a stop."""
