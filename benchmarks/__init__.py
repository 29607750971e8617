"""Speed and memory of this package, beside PyTorch doing the same work in the same run."""

import os

# Two frameworks share the GPU here; by itself JAX takes three quarters of its memory at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
