"""Makes LR images with the faults of real photographs, the same on every machine.

    python -m tools.degrade_images Set14 degraded
    python -m esrgan_jax.evaluate --hr=Set14 --lr=degraded/jpeg50 --metrics=lpips,niqe

Into one folder for each kind, with the sub-folders of HR, as PNG: the bicubic reduction alone
(clean), with JPEG at three qualities, with noise, blurred before, and with some of all as from a
phone. docs/models.md has the scores of networks on them.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.files import make_folder


def reduced(hr: Image.Image, scale: int, sigma: float = 0.0) -> Image.Image:
    """Returns LR by Pillow's bicubic; HR is blurred before by a Gaussian of `sigma` pixels."""
    blurred = hr.filter(ImageFilter.GaussianBlur(sigma)) if sigma else hr
    return blurred.resize((hr.width // scale, hr.height // scale), Image.Resampling.BICUBIC)


def noisy(lr: Image.Image, rng: np.random.Generator, sigma: float) -> Image.Image:
    """Adds normal noise with a deviation of `sigma` levels of 255."""
    level = np.asarray(lr, np.float64) + rng.normal(0, sigma, (lr.height, lr.width, 3))
    return Image.fromarray(level.round().clip(0, 255).astype(np.uint8))


def compressed(lr: Image.Image, quality: int) -> Image.Image:
    """Saves as JPEG with chroma 4:2:0 and reads it again."""
    file = io.BytesIO()
    lr.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as read:
        return read.convert("RGB")


def _phone(hr: Image.Image, scale: int, rng: np.random.Generator) -> Image.Image:
    return compressed(noisy(reduced(hr, scale, sigma=1.5), rng, 5), 70)


Kind = Callable[[Image.Image, int, np.random.Generator], Image.Image]
KINDS: dict[str, Kind] = {
    "clean": lambda hr, scale, rng: reduced(hr, scale),
    "jpeg75": lambda hr, scale, rng: compressed(reduced(hr, scale), 75),
    "jpeg50": lambda hr, scale, rng: compressed(reduced(hr, scale), 50),
    "jpeg30": lambda hr, scale, rng: compressed(reduced(hr, scale), 30),
    "noise10": lambda hr, scale, rng: noisy(reduced(hr, scale), rng, 10),
    "blur": lambda hr, scale, rng: reduced(hr, scale, sigma=4),
    "phone": _phone,
}


def degrade_folder(hr_folder: Path, output: Path, scale: int, kinds: Sequence[str]) -> int:
    """Writes every image of a folder in every kind; returns the number of files.

    HR is cropped at the right and at the bottom to a multiple of the scale. The noise depends on
    the kind and on the image's path below the folder, not on what else is in the folder.

    Raises:
        InputError: The folder has no image, or one cannot be read or is too small; two would become
            the same file; or results would be among the images of the folder.
    """
    from esrgan_jax.images.image_file import find_images, read_image
    from esrgan_jax.imresize import mod_crop

    paths: dict[Path, Path] = {}
    for path in find_images(hr_folder):
        other = paths.setdefault(path.relative_to(hr_folder).with_suffix(".png"), path)
        if other != path:
            raise InputError(f"{other} and {path} would become the same PNG; rename one")
    hr_place = hr_folder.resolve()
    for folder in (output / kind for kind in kinds):
        place = folder.resolve()
        if place.is_relative_to(hr_place) or hr_place.is_relative_to(place):
            raise InputError(
                f"{folder}: would mix results with the images of {hr_folder}; give another OUTPUT"
            )
    for name, path in paths.items():
        image = mod_crop(read_image(path), scale)
        if not image.size:
            raise InputError(f"{path}: is smaller than the scale of {scale}")
        hr = Image.fromarray(image)
        for kind in kinds:
            seed = f"{kind}/{name.with_suffix('').as_posix()}"
            rng = np.random.default_rng(list(seed.encode()))
            target = output / kind / name
            make_folder(target.parent)
            KINDS[kind](hr, scale, rng).save(target)
    return len(paths) * len(kinds)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.degrade_images",
        description="Make LR images with JPEG, noise and blur, to measure networks on.",
    )
    add = parser.add_argument
    add("hr", metavar="HR", type=path_type, help="folder of HR images")
    add("output", metavar="OUTPUT", type=path_type, help="folder for a folder of each kind")
    add("--scale", type=int, default=4, help="HR size divided by LR size (default 4)")
    add("--kinds", default=",".join(KINDS), help=f"which of {', '.join(KINDS)} (default: all)")
    args = parse(parser, argv)
    if args.scale < 1:
        raise InputError(f"--scale={args.scale}: take 1 or more")
    kinds = args.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise InputError(
            f"--kinds={args.kinds}: no {unknown[0]!r}; take some of {', '.join(KINDS)}"
        )
    count = degrade_folder(args.hr, args.output, args.scale, kinds)
    print(f"wrote {count} images into {args.output}")


if __name__ == "__main__":
    run_command(main)
