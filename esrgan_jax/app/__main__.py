"""`python -m esrgan_jax.app`."""

from esrgan_jax.app.command import main
from esrgan_jax.errors import run_command

if __name__ == "__main__":
    run_command(main)
