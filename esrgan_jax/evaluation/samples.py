"""Reads the images to evaluate on, and makes bicubic results and the rows of a figure."""

import contextlib
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from esrgan_jax.data import pairs
from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.comparison import Row, worst_box
from esrgan_jax.evaluation.contestants import BICUBIC
from esrgan_jax.evaluation.metrics import METRICS, SSIM_WINDOW
from esrgan_jax.images.image_file import find_images, read_image
from esrgan_jax.imresize import imresize, mod_crop

CAPTION = 30  # characters of a line below a whole image in a sheet


class Pair(NamedTuple):
    """An image to evaluate on: `lr` is (H, W, 3) uint8, `hr` (scale H, scale W, 3) uint8."""

    name: str
    lr: np.ndarray
    hr: np.ndarray


def image_paths(hr: Path, lr: Path | None, scale: int) -> list[tuple[Path, Path | None]]:
    """Returns the HR images of a folder and its sub-folders, each with its LR image or None.

    Args:
        hr: The folder of HR images.
        lr: The folder of LR images; without it, LR is None for all.
        scale: HR size over LR size.

    Raises:
        InputError: As `find_images` and, with `lr`, `data.pairs.find_pairs`.
    """
    if lr is None:
        return [(path, None) for path in find_images(hr)]
    return [*pairs.find_pairs(hr, lr, scale)]


def read_pair(hr_path: Path, lr_path: Path | None, scale: int, name: str | None = None) -> Pair:
    """Reads an HR image, cropped to a multiple of the scale, and its LR image.

    Without `lr_path` LR is made from HR by MATLAB's bicubic.

    Raises:
        InputError: An image cannot be read or is too small to be scored, or the sizes do not match.
    """
    hr = mod_crop(read_image(hr_path), scale)
    height, width = hr.shape[:2]
    least = SSIM_WINDOW + 2 * scale
    if min(height, width) < least:
        raise InputError(f"{hr_path} is smaller than {least} px, too small to be scored")
    lr = imresize(hr, 1 / scale) if lr_path is None else read_image(lr_path)
    if (lr.shape[0] * scale, lr.shape[1] * scale) != (height, width):
        raise InputError(
            f"{lr_path} has {lr.shape[1]}x{lr.shape[0]} px, but 1/{scale} of {hr_path} is "
            f"{width // scale}x{height // scale}; give LR images of scale {scale}"
        )
    return Pair(name or hr_path.name, lr, hr)


def readable(paths: Sequence[tuple[Path, Path | None]], scale: int, most: int) -> set[int]:
    """Returns the indices of up to `most` pairs that `read_pair` reads, evenly spread.

    A pair that cannot be read is replaced by the nearest one that can.
    """
    left, found = [*range(len(paths))], set[int]()
    for place in np.linspace(0, len(paths) - 1, min(len(paths), most)).round():
        for index in sorted(left, key=lambda index: abs(index - place)):
            left.remove(index)
            with contextlib.suppress(InputError):
                read_pair(*paths[index], scale)
                found.add(index)
                break
    return found


def bicubic(scale: int) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that upscales uint8 images by MATLAB's bicubic."""
    return lambda lr: imresize(lr, scale)


def sheet_row(
    pair: Pair, results: Mapping[str, np.ndarray], rows: Mapping[str, dict[str, Any]]
) -> Row:
    """Returns a row of the sheet: the image, and each method's crop of where bicubic is worst.

    Args:
        results: The results of bicubic and of the models, each shaped like `pair.hr`.
        rows: The scores of the results; the first two are shown.
    """
    names = [name for name in rows[BICUBIC] if name != "name"][:2]
    box = worst_box(results[BICUBIC], pair.hr)
    top, left, height, width = box

    def crop(image: np.ndarray) -> np.ndarray:
        # A view would keep the whole image in memory.
        return image[top : top + height, left : left + width].copy()

    crops = [("HR", crop(pair.hr))]
    for method, image in results.items():
        shown = " / ".join(METRICS[name].shown(rows[method][name]) for name in names)
        crops.append((f"{method}\n({shown})", crop(image)))
    legend = f"({' / '.join(METRICS[name].heading for name in names)})"
    caption = "\n".join([*textwrap.wrap(pair.name, CAPTION), legend])
    return Row(caption, pair.hr, box, crops)
