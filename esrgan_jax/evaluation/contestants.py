"""Loads the models to compare and gives each a short unique name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esrgan_jax.blend import ALPHA
from esrgan_jax.errors import InputError

if TYPE_CHECKING:
    from esrgan_jax.upscaling.upscaler import Upscaler

BICUBIC = "bicubic"


def load_contestants(
    models: Sequence[str], psnr_model: str | None = None, alpha: float | None = None
) -> "dict[str, Upscaler]":
    """Loads models, by their short names; a single one may be mixed with `psnr_model`.

    Where there are none, it loads the package's own, mixed by `alpha`.

    All are held at once: one of 23 blocks has 67 MB, less than a tenth of what its tiles have, and
    those of one architecture share their compiled programs.

    Raises:
        InputError: One cannot be read, is given twice or is of another scale, or several should be
            mixed.
        RunError: One of the zoo cannot be downloaded.
    """
    if not models and alpha is None:
        alpha = ALPHA
    mixed = psnr_model is not None or alpha is not None
    if mixed and len(models) > 1:
        raise InputError(
            f"--psnr_model and --alpha mix with one --model, and {len(models)} are given; "
            "mix by python -m esrgan_jax.interpolate and compare the files"
        )
    names = short_names(models) or ["lite-x4"]

    from esrgan_jax.upscaling.upscaler import SCORED, Upscaler

    mixed_with: dict[str, Any] = {"psnr_model": psnr_model, "alpha": alpha}
    upscalers = [Upscaler.load(model, **mixed_with, **SCORED) for model in models or [None]]
    for name, upscaler in zip(names, upscalers, strict=True):
        if upscaler.scale != upscalers[0].scale:
            raise InputError(
                f"{names[0]} enlarges {upscalers[0].scale} times and {name} {upscaler.scale} "
                "times; compare networks of one scale"
            )
    if mixed:
        names = [f"{names[0]}, alpha {alpha:g}"]
    return dict(zip(names, upscalers, strict=True))


def short_names(models: Sequence[str]) -> list[str]:
    """The last part of each path without its suffix, or as many parts as tell it from the others.

    Args:
        models: Paths of files and folders, and names of the zoo.

    Raises:
        InputError: One is given twice.
    """
    paths = [Path(os.path.abspath(model)) for model in models]
    for path, model in zip(paths, models, strict=True):
        if paths.count(path) > 1:
            raise InputError(f"--model={model} is given twice")
    stems = [path.with_suffix("") if path.is_file() else path for path in paths]
    if len(set(stems)) < len(stems):  # net.pth beside net.npz
        stems = paths
    return [_shortest_end(stem, [other for other in stems if other != stem]) for stem in stems]


def _shortest_end(path: Path, others: Sequence[Path]) -> str:
    """As many of a path's last parts as no other path ends in, nor is called bicubic."""
    ends = ["/".join(path.parts[-count:]) for count in range(1, len(path.parts))]
    taken = [f"/{BICUBIC}", *map(str, others)]
    return next((end for end in ends if not any(t.endswith(f"/{end}") for t in taken)), str(path))
