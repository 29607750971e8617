"""Speed and memory of this package, compared with PyTorch on the same work in the same run."""

import os

# Two frameworks share the GPU here, and by default JAX reserves three quarters of its memory.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
