"""The page of `python -m esrgan_jax.app`: its server, its controls, and its files."""
