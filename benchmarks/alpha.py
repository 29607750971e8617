"""Compares ways to upscale alpha (table of docs/formats.md): python -m benchmarks.alpha [MODEL …]

Masks whose true shape is known, enlarged by the package's way, by bicubic and by networks, and the
mean error of each in thousandths.
"""

import argparse
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.masks import pair
from esrgan_jax.command_line import parse
from esrgan_jax.errors import run_command
from esrgan_jax.imresize import imresize
from esrgan_jax.upscaling.alpha import upscale_alpha
from esrgan_jax.upscaling.upscaler import Upscaler

KINDS, EDGES = ("circle", "text", "hair"), ("hard", "harder", "soft", "blurred")
SCALE, PAD = 4, 3
enlarge = jax.jit(upscale_alpha, static_argnames=("scale", "border"))

Method = Callable[[np.ndarray], np.ndarray]


def ours(lr: np.ndarray, scale: int = SCALE) -> np.ndarray:
    """Upscales (h, w) in [0, 1] to (scale h, scale w) as the package upscales alpha."""
    sizes = jnp.array([lr.shape], jnp.int32)
    return np.asarray(enlarge(lr[None, ..., None], sizes, scale, "zero"))[0, ..., 0]


def bicubic(lr: np.ndarray, scale: int = SCALE) -> np.ndarray:
    """The same by MATLAB's bicubic, clamped, with mirrored borders."""
    cut = PAD * scale
    return imresize(np.pad(lr, PAD, "symmetric"), scale)[cut:-cut, cut:-cut].clip(0, 1)


def network(model: str | None) -> Method:
    """The same by a network that gets the mask as gray; None is the package's blend."""
    return Upscaler.load(model)


def errors(method: Method, kinds: Sequence[str] = KINDS) -> list[float]:
    """Returns mean absolute errors for every kind and edge; results have 256 levels."""
    found = []
    for edge in EDGES:
        for kind in kinds:
            lr, truth = pair(kind, edge, SCALE)
            found.append(float(np.abs(np.rint(method(lr) * 255) / 255 - truth).mean()))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alpha",
        description="Print a table of errors of upscaled masks, in thousandths.",
    )
    parser.add_argument("models", metavar="MODEL", nargs="*", help="x4 networks to compare with")
    models = parse(parser, argv).models
    methods = {"the package's way": ours, "bicubic": bicubic}
    methods |= {"the package's networks": network(None)}
    methods |= {model.rpartition("/")[2]: network(model) for model in models}
    columns = [f"{kind}, {edge}" for edge in EDGES for kind in KINDS]
    print(f"| |{'|'.join(columns)}|\n|---|{'---:|' * len(columns)}")
    for name, method in methods.items():
        print(f"|{name}|{'|'.join(f'{1000 * error:.1f}' for error in errors(method))}|", flush=True)


if __name__ == "__main__":
    run_command(main)
