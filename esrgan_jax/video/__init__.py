"""Videos: reading and writing through PyAV, and resuming after a stop."""
