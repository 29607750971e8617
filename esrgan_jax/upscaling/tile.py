"""A tile of an image: cut from its rows, and pasted into the rows of the result."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from esrgan_jax.upscaling.strips import white_level
from esrgan_jax.upscaling.tiles import Axis, Span


@dataclass(eq=False)
class Tile:
    """A tile of an image.

    Attributes:
        lr: (h, w, bands) uint8, uint16 or float32, zero beyond `size`; a NumPy array, or a JAX
            array, whose result stays on the device.
        size: (height, width) that is image.
        dtype: Of the result, "uint8", "uint16" or "float32".
        row: The rows of the image that the tile reads and fills.
        column: Its columns, likewise.
        image: The image it belongs to. The network does not look at it.
        constant_alpha: The value of alpha, in [0, 1], where alpha is constant and not part of `lr`.
        progress: Called with the finished part of the tile, in (0, 1], while it is computed.
        result: (scale h, scale w, bands) once it is done.
        error: Why it could not be done.
    """

    lr: Any
    size: tuple[int, int]
    dtype: str
    row: Span
    column: Span
    image: Any = None
    constant_alpha: float | None = None
    progress: Callable[[float], None] | None = None
    result: Any = None
    error: Exception | None = None

    @property
    def open(self) -> bool:
        """Whether it still has to be computed."""
        return self.result is None and self.error is None


def rows_of(image: np.ndarray, span: Span) -> np.ndarray:
    """The rows of an image in memory that a span reads, wrapping around its ends."""
    if span.start >= 0 and span.end <= len(image):
        return image[span.start : span.end]
    return image.take(np.arange(span.start, span.end), axis=0, mode="wrap")


def cut_row(strip: np.ndarray, row: Span, rows: Axis, columns: Axis, dtype: str) -> Iterator[Tile]:
    """Cuts one row of tiles.

    Args:
        strip: (row.end - row.start, width, bands), the rows that the tiles read.
        row: The position of the strip.
        rows: The plan of the height, for the length of the tiles.
        columns: The plan of the width.
        dtype: Of the results.
    """
    for column in columns.spans:
        part = rows_of(strip.swapaxes(0, 1), column).swapaxes(0, 1)
        lr = np.zeros((rows.length, columns.length, strip.shape[2]), strip.dtype)
        lr[: part.shape[0], : part.shape[1]] = part
        yield Tile(lr, part.shape[:2], dtype, row, column)


def paste(tile: Tile, target: np.ndarray, scale: int, top: int = 0) -> None:
    """Writes the part of a tile's result that belongs to no neighbour into a result.

    Args:
        tile: A tile that is done.
        target: (scale height, scale width, bands), which is changed.
        scale: Of the result.
        top: The LR row at which `target` begins.
    """
    row, column = tile.row, tile.column
    inner = _scaled(row, scale, row.start), _scaled(column, scale, column.start)
    place = target[_scaled(row, scale, top), _scaled(column, scale)]
    place[..., : tile.result.shape[-1]] = tile.result[inner]
    if tile.constant_alpha is not None:
        full = white_level(target.dtype)
        place[..., -1] = tile.constant_alpha if full == 1 else np.rint(tile.constant_alpha * full)


def _scaled(span: Span, scale: int, start: int = 0) -> slice:
    """The pixels of the result that a span fills, counted from LR position `start`."""
    return slice((span.keep_start - start) * scale, (span.keep_end - start) * scale)
