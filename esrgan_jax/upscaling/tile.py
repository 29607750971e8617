"""Tiles: cut from the rows of an image, and pasted into the rows of the result."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.upscaling.strips import white_level
from esrgan_jax.upscaling.tiles import Axis, Span

AnyArray = np.ndarray | jax.Array


@dataclass(eq=False)
class Tile:
    """A tile of an image.

    Attributes:
        lr: (h, w, bands) uint8, uint16 or float32, zero beyond `size`; a NumPy array, or a JAX
            array, whose result stays on the device.
        size: (height, width) of the part that is image.
        dtype: Of the result, "uint8", "uint16" or "float32".
        row: The rows of the image that the tile reads and fills.
        column: The columns, likewise.
        image: The image that the tile belongs to; any object; the network does not use it.
        constant_alpha: The value of alpha, in [0, 1], if it is constant and not part of `lr`.
        progress: Called with the finished part of the tile, in (0, 1], while it is computed.
        result: (scale h, scale w, bands); None until it is computed.
        error: Why it could not be computed.
    """

    lr: AnyArray
    size: tuple[int, int]
    dtype: str
    row: Span
    column: Span
    image: Any = None
    constant_alpha: float | None = None
    progress: Callable[[float], None] | None = None
    result: AnyArray | None = None
    error: Exception | None = None

    @property
    def open(self) -> bool:
        """Whether the tile still has to be computed."""
        return self.result is None and self.error is None

    @property
    def full(self) -> bool:
        """Whether all of the array is image."""
        return self.size == self.lr.shape[:2]


def rows_of(image: AnyArray, span: Span) -> AnyArray:
    """Returns the rows of an image that a span reads, wrapping around the image's ends."""
    if span.start >= 0 and span.end <= len(image):
        return image[span.start : span.end]
    return image.take(np.arange(span.start, span.end), axis=0, mode="wrap")


def cut_row(strip: AnyArray, row: Span, rows: Axis, columns: Axis, dtype: str) -> Iterator[Tile]:
    """Cuts one row of tiles.

    Args:
        strip: (row.end - row.start, width, bands), the rows that the tiles read.
        row: The rows of the image that `strip` has.
        rows: The plan of the height; its length is that of the tiles.
        columns: The plan of the width.
        dtype: Of the results.
    """
    for column in columns.spans:
        part = rows_of(strip.swapaxes(0, 1), column).swapaxes(0, 1)
        lr = np.zeros((rows.length, columns.length, strip.shape[2]), strip.dtype)
        lr[: part.shape[0], : part.shape[1]] = part
        yield Tile(lr, (part.shape[0], part.shape[1]), dtype, row, column)


def stacked(tiles: list[Tile], size: int) -> tuple[AnyArray, np.ndarray]:
    """Makes a batch of tiles, filled up with zeros; on the device if they are there.

    Returns:
        (size, h, w, bands) and (size, 2) int32, the sizes.
    """
    arrays = [tile.lr for tile in tiles]
    xp = jnp if isinstance(arrays[0], jax.Array) else np
    sizes = np.zeros((size, 2), np.int32)
    sizes[: len(tiles)] = [tile.size for tile in tiles]
    return xp.stack([*arrays, *[xp.zeros_like(arrays[0])] * (size - len(tiles))]), sizes


def paste(tile: Tile, target: np.ndarray, scale: int, top: int = 0) -> None:
    """Writes the part of a tile's result that the tile fills into the image's result.

    Args:
        tile: A tile with a result.
        target: (scale height, scale width, bands), modified in place.
        scale: Of the result.
        top: The LR row at which `target` begins.
    """
    assert tile.result is not None
    row, column = tile.row, tile.column
    inner = _scaled(row, scale, row.start), _scaled(column, scale, column.start)
    area = target[_scaled(row, scale, top), _scaled(column, scale)]
    area[..., : tile.result.shape[-1]] = tile.result[inner]
    if tile.constant_alpha is not None:
        full = white_level(target.dtype)
        area[..., -1] = tile.constant_alpha if full == 1 else np.rint(tile.constant_alpha * full)


def _scaled(span: Span, scale: int, start: int = 0) -> slice:
    """Returns the pixels of the result that a span fills, relative to LR position `start`."""
    return slice((span.keep_start - start) * scale, (span.keep_end - start) * scale)


def report(tiles: list[Tile], done: float) -> None:
    """Reports the finished part of a batch, in (0, 1], to each of its tiles."""
    for tile in tiles:
        if tile.progress:
            tile.progress(done)
