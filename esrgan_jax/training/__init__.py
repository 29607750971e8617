"""Training: the loop and its steps, losses, settings, checkpoints and validation."""
