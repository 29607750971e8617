"""ESRGAN (arXiv 1809.00219) in JAX and Flax: train it, interpolate it, upscale with it."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esrgan_jax.checkpoint import load_generator as load_generator
    from esrgan_jax.interpolation import interpolate_params as interpolate_params
    from esrgan_jax.upscaling.upscaler import Upscaler as Upscaler

# What XLA logs, such as "Very slow compile?", is for its authors. It asks for the level when it is
# imported; TF_CPP_MIN_LOG_LEVEL=0 shows all.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"

_HOME = {
    "Upscaler": "esrgan_jax.upscaling.upscaler",
    "interpolate_params": "esrgan_jax.interpolation",
    "load_generator": "esrgan_jax.checkpoint",
}
__all__ = ["Upscaler", "interpolate_params", "load_generator"]


def __getattr__(name: str):
    """Resolves the public names on first use, so that importing the package stays light."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
