"""Writes previews for the browser: reduced 8-bit JPEGs on white."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from esrgan_jax.images.reader import OpenedImage
from esrgan_jax.images.writer import write_rows
from esrgan_jax.upscaling.strips import Strips, quantized, resized, white_level

LONGEST_SIDE = 2560  # pixels of a preview: enough to zoom in, little to send
PARTS = 24  # most parts in which a result appears


def preview_size(height: int, width: int, longest: int = LONGEST_SIDE) -> tuple[int, int]:
    """Returns (height, width) reduced to a longest side; a smaller image keeps its size."""
    shrunk = min(1.0, longest / max(height, width))
    return max(round(height * shrunk), 1), max(round(width * shrunk), 1)


def write_preview(image: OpenedImage, target: Path, size: tuple[int, int]) -> Path:
    """Writes an image's first frame as JPEG, with the image's ICC profile, and returns the path.

    Args:
        image: The opened image.
        target: A .jpg file.
        size: (height, width) of the preview, larger (bicubic) or smaller.
    """
    before = (image.height, image.width)
    rows = (opaque(strip) for strip in _first_frame(image))
    if size != before:
        rows = resized(rows, before, size)
    profile = {k: v for k, v in image.metadata.items() if k == "icc-profile-data"}
    write_rows(
        target,
        quantized(rows, np.dtype(np.uint8)),
        height=size[0],
        width=size[1],
        bands=image.bands - 1 if image.bands in (2, 4) else image.bands,
        dtype=np.uint8,
        like=replace(image, metadata=profile, resolution=None, frames=1, extra=()),
    )
    return target


def opaque(strip: np.ndarray) -> np.ndarray:
    """Returns (n, width, bands) rows of any dtype as float32 in [0, 1], on white, without alpha."""
    pixels = strip.astype(np.float32) / np.float32(white_level(strip.dtype))
    if strip.shape[2] in (2, 4):
        alpha = pixels[..., -1:]
        pixels = pixels[..., :-1] * alpha + (1 - alpha)
    return pixels


def _first_frame(image: OpenedImage) -> Iterator[np.ndarray]:
    rows, read = image.rows(), 0
    while read < image.height and (strip := next(rows, None)) is not None:
        read += len(strip)
        yield strip


class PreviewParts:
    """Writes the finished rows of a result's first frame as previews, from top to bottom.

    Args:
        place: Returns the path for a file name.
        profile: The ICC profile, if any.
        finished: Called with (top, height, file) of each part, as shares of the whole height.
    """

    def __init__(
        self,
        place: Callable[[str], Path],
        profile: bytes | None,
        finished: Callable[[float, float, Path], None],
    ):
        self.place, self.profile, self.finished = place, profile, finished
        self.top = self.held_rows = 0
        self.held: list[np.ndarray] = []

    def add(self, strips: Strips, rows: np.ndarray) -> None:
        """Adds the next rows, (n, width, bands), and writes a part if enough are collected."""
        if self.top >= strips.height:  # another frame
            return
        self.held.append(rows)
        self.held_rows += len(rows)
        bottom = self.top + self.held_rows
        if self.held_rows * PARTS < strips.height and bottom < strips.height:
            return
        height, width = preview_size(strips.height, strips.width)
        size = (width, max(round(self.held_rows * height / strips.height), 1))
        pixels = np.rint(opaque(np.concatenate(self.held)).clip(0, 1) * 255).astype(np.uint8)
        image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
        path = self.place(f"part-{self.top}.jpg")
        image.resize(size, Image.Resampling.BOX).save(
            path, quality=90, subsampling=0, icc_profile=self.profile
        )
        self.finished(self.top / strips.height, self.held_rows / strips.height, path)
        self.top, self.held, self.held_rows = bottom, [], 0
