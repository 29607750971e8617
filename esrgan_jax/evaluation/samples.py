"""Reads the images to evaluate on, makes bicubic results, and rows for a figure."""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from esrgan_jax.data import pairs
from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.comparison import Row, telling_box
from esrgan_jax.evaluation.contestants import BICUBIC
from esrgan_jax.evaluation.metrics import METRICS, SSIM_WINDOW
from esrgan_jax.images.image_file import find_images, read_image
from esrgan_jax.imresize import imresize, mod_crop

CAPTION = 30  # characters of a line below a sheet's whole images


class Pair(NamedTuple):
    """An image to evaluate on: `lr` (H, W, 3) uint8 and the truth `hr` (scale H, scale W, 3)."""

    name: str
    lr: np.ndarray
    hr: np.ndarray


def image_paths(hr: Path, lr: Path | None, scale: int) -> list[tuple[Path, Path | None]]:
    """The HR images of a folder (recursive), each with its LR image where `lr` is given.

    Raises:
        InputError: As `image.find_images` and, with `lr`, `data.pairs.find_pairs`.
    """
    if lr is None:
        return [(path, None) for path in find_images(hr)]
    return [*pairs.find_pairs(hr, lr, scale)]


def read_pair(hr_path: Path, lr_path: Path | None, scale: int, name: str | None = None) -> Pair:
    """Reads an image, mod-cropped to the scale, and its LR; without `lr_path` MATLAB's bicubic.

    Raises:
        InputError: an image cannot be read or is too small to be scored, or the sizes do not fit.
    """
    hr = mod_crop(read_image(hr_path), scale)
    height, width = hr.shape[:2]
    least = SSIM_WINDOW + 2 * scale
    if min(height, width) < least:
        raise InputError(f"{hr_path} is smaller than {least} px, too small to be scored")
    lr = imresize(hr, 1 / scale) if lr_path is None else read_image(lr_path)
    if (lr.shape[0] * scale, lr.shape[1] * scale) != (height, width):
        raise InputError(
            f"{lr_path} has {lr.shape[1]}x{lr.shape[0]} px, but 1/{scale} of {hr_path} has "
            f"{width // scale}x{height // scale}; is it the LR of another scale?"
        )
    return Pair(name or hr_path.name, lr, hr)


def bicubic(scale: int) -> Callable[[np.ndarray], np.ndarray]:
    """MATLAB's bicubic as an upscaling function of uint8 images."""
    return lambda lr: imresize(lr, scale)


def sheet_row(
    pair: Pair, results: Mapping[str, np.ndarray], rows: Mapping[str, dict[str, Any]]
) -> Row:
    """A row of the sheet: the image, and its part that bicubic loses most of by every method.

    Args:
        results: Bicubic's and the models' images, each like `pair.hr`.
        rows: Their scores, of which the first two are shown.
    """
    names = [name for name in rows[BICUBIC] if name != "name"][:2]
    box = telling_box(results[BICUBIC], pair.hr)
    top, left, height, width = box

    def crop(image: np.ndarray) -> np.ndarray:
        return image[top : top + height, left : left + width].copy()  # frees the whole

    crops = [("HR", crop(pair.hr))]
    for method, image in results.items():
        shown = " / ".join(METRICS[name].shown(rows[method][name]) for name in names)
        crops.append((f"{method}\n({shown})", crop(image)))
    legend = f"({' / '.join(METRICS[name].heading for name in names)})"
    caption = "\n".join([*textwrap.wrap(pair.name, CAPTION), legend])
    return Row(caption, pair.hr, box, crops)
