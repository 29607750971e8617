"""Loads the models to compare and gives each a short unique name."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esrgan_jax.blend import ALPHA, DENOISE
from esrgan_jax.errors import InputError

if TYPE_CHECKING:
    from esrgan_jax.upscaling.upscaler import Upscaler

BICUBIC = "bicubic"


def load_contestants(
    models: Sequence[str],
    psnr_model: str | None = None,
    alpha: float | None = None,
    denoise: float | None = None,
) -> "dict[str, Upscaler]":
    """Loads the models to compare.

    All models are in memory at once. One of 23 blocks takes 67 MB, less than a tenth of the memory
    of its tiles. Models of one architecture share their compiled programs.

    Args:
        models: Paths and names of the zoo; none means the package's networks, interpolated.
        psnr_model: Is interpolated with the one model of `models`.
        alpha: The weight of the model in the interpolation.
        denoise: As for `Upscaler.load`.

    Returns:
        The models by their short names.

    Raises:
        InputError: A model cannot be read, is given twice or has another scale than the first, or
            several models are given with `psnr_model` or `alpha`.
        RunError: A model of the zoo cannot be downloaded.
    """
    if not models:
        alpha, denoise = (
            (ALPHA if alpha is None else alpha),
            (DENOISE if denoise is None else denoise),
        )
    shares = {"alpha": alpha, "denoise": denoise}
    shares = {name: share for name, share in shares.items() if share is not None}
    if len(models) > 1 and (shares or psnr_model is not None):
        raise InputError(
            f"--psnr_model and --alpha need exactly one --model, but {len(models)} are given; "
            "interpolate with python -m esrgan_jax.interpolate and compare the files"
        )
    names = short_names(models) or ["lite-x4"]

    from esrgan_jax.upscaling.upscaler import SCORED, Upscaler

    blend: dict[str, Any] = {"psnr_model": psnr_model, **shares, **SCORED}
    upscalers = [Upscaler.load(model, **blend) for model in models or [None]]
    for name, upscaler in zip(names, upscalers, strict=True):
        if upscaler.scale != upscalers[0].scale:
            raise InputError(
                f"{names[0]} upscales {upscalers[0].scale} times and {name} {upscaler.scale} "
                "times; compare networks of one scale"
            )
    if shares:
        names = [", ".join([*names, *(f"{name} {share:g}" for name, share in shares.items())])]
    return dict(zip(names, upscalers, strict=True))


def short_names(models: Sequence[str]) -> list[str]:
    """Returns a unique name for each model: the last part of its path, or more where needed.

    Args:
        models: Paths of files and folders, and names of the zoo. Suffixes of files are left out
            unless two models differ only in them.

    Raises:
        InputError: A model is given twice.
    """
    paths = [Path(os.path.abspath(model)) for model in models]
    for path, model in zip(paths, models, strict=True):
        if paths.count(path) > 1:
            raise InputError(f"--model={model} is given twice")
    stems = [path.with_suffix("") if path.is_file() else path for path in paths]
    if len(set(stems)) < len(stems):  # such as net.pth and net.npz
        stems = paths
    return [_shortest_end(stem, [other for other in stems if other != stem]) for stem in stems]


def _shortest_end(path: Path, others: Sequence[Path]) -> str:
    """Returns the shortest end of a path that is neither the end of another one nor "bicubic"."""
    ends = ["/".join(path.parts[-count:]) for count in range(1, len(path.parts))]
    taken = [f"/{BICUBIC}", *map(str, others)]
    return next((end for end in ends if not any(t.endswith(f"/{end}") for t in taken)), str(path))
