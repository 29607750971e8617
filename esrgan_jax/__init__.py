"""ESRGAN (arXiv 1809.00219) in JAX and Flax: train it, interpolate it, upscale with it."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esrgan_jax import models as models
    from esrgan_jax.checkpoint import load_generator as load_generator
    from esrgan_jax.data.pipeline import make_dataset as make_dataset
    from esrgan_jax.interpolation import interpolate_params as interpolate_params
    from esrgan_jax.training import losses as losses
    from esrgan_jax.training.loop import train_and_evaluate as train_and_evaluate
    from esrgan_jax.training.steps import gan_step as gan_step
    from esrgan_jax.training.steps import psnr_step as psnr_step
    from esrgan_jax.training.train_state import TrainState as TrainState
    from esrgan_jax.upscaling.upscaler import Upscaler as Upscaler

# XLA logs messages for its authors, such as "Very slow compile?". It reads the level when it is
# imported; TF_CPP_MIN_LOG_LEVEL=0 shows all.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.1.0"
__all__ = [
    "TrainState",
    "Upscaler",
    "gan_step",
    "interpolate_params",
    "load_generator",
    "losses",
    "make_dataset",
    "models",
    "psnr_step",
    "train_and_evaluate",
]

_MODULES = {
    "TrainState": "training.train_state",
    "Upscaler": "upscaling.upscaler",
    "gan_step": "training.steps",
    "interpolate_params": "interpolation",
    "load_generator": "checkpoint",
    "losses": "training.losses",
    "make_dataset": "data.pipeline",
    "models": "models",
    "psnr_step": "training.steps",
    "train_and_evaluate": "training.loop",
}


def __getattr__(name: str) -> object:
    """Imports a public name on first use, so that `import esrgan_jax` takes no time."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    is_module = _MODULES[name].rpartition(".")[2] == name
    return module if is_module else getattr(module, name)


def __dir__() -> list[str]:
    """All names, including the public ones that are not imported yet, for completion."""
    return sorted({*globals(), *__all__})
