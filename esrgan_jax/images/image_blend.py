"""Blends two images pixel by pixel, to compare with network interpolation (§4.5)."""

from pathlib import Path

import numpy as np

from esrgan_jax.errors import InputError, listed
from esrgan_jax.images.image_file import find_images, read_image, write_image


def blend_images(psnr: Path, gan: Path, alpha: float, output: Path) -> list[Path]:
    """Blends two images, or two folders of images with the same relative names, into PNG files.

    Returns:
        The files written.

    Raises:
        InputError: An image is missing or has no partner, two partners differ in size, or an image
            would be overwritten.
    """
    written = []
    psnr, gan, output = (path.expanduser() for path in (psnr, gan, output))
    pairs = _image_pairs(psnr, gan, output)
    inputs = {path.resolve() for first, second, _ in pairs for path in (first, second)}
    for _, _, target in pairs:
        if target.resolve() in inputs:
            raise InputError(f"{target}: would overwrite the input; give another --output")
    for first, second, target in pairs:
        a, b = read_image(first), read_image(second)
        if a.shape != b.shape:
            raise InputError(
                f"{first} has {a.shape[1]}x{a.shape[0]} px and {second} "
                f"{b.shape[1]}x{b.shape[0]} px; blend images of the same size"
            )
        write_image(target, blend(a, b, alpha))
        written.append(target)
    return written


def blend(psnr: np.ndarray, gan: np.ndarray, alpha: float) -> np.ndarray:
    """Returns (1 - alpha) · psnr + alpha · gan of two uint8 images, rounded half to even."""
    values = (1 - alpha) * psnr.astype(np.float64) + alpha * gan.astype(np.float64)
    return np.rint(values.clip(0, 255)).astype(np.uint8)


def _image_pairs(psnr: Path, gan: Path, output: Path) -> list[tuple[Path, Path, Path]]:
    for path in (psnr, gan):
        if not path.exists():
            raise InputError(f"no image or folder {path}")
    if psnr.is_dir() != gan.is_dir():
        raise InputError(f"{psnr} and {gan}: --images takes two images or two folders")
    if not psnr.is_dir():
        if output.suffix.lower() != ".png":
            raise InputError(f"--output={output}: the blend of two images is one file, named *.png")
        return [(psnr, gan, output)]
    names = [{path.relative_to(folder) for path in find_images(folder)} for folder in (psnr, gan)]
    unpaired = [str(name) for name in sorted(names[0] ^ names[1])]
    if unpaired:
        raise InputError(
            f"{psnr} and {gan} do not share {listed(unpaired)}; "
            "the two folders must hold images of the same names"
        )
    targets: dict[Path, Path] = {}
    for name in sorted(names[0]):
        other = targets.setdefault(output / name.with_suffix(".png"), name)
        if other != name:
            raise InputError(f"{other} and {name} of {psnr} would write the same PNG; rename one")
    return [(psnr / name, gan / name, target) for target, name in targets.items()]
