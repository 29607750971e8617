"""Videos: reading and writing with PyAV, and resuming after a stop."""
