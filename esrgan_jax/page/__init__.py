"""The page of `python -m esrgan_jax.app`: what it shows, its files, and who may ask for them."""
