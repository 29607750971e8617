"""A tile of a picture, cut out of rows in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from esrgan_jax.errors import RunError
from esrgan_jax.upscaling.tiles import Axis, Span


@dataclass(eq=False)
class Tile:
    """A tile of a picture.

    Attributes:
        lr: (h, w, bands) uint8, uint16 or float32, zero beyond `size`.
        size: (height, width) that is picture.
        dtype: Of the result, "uint8", "uint16" or "float32".
        place: Whatever its owner knows it by.
        result: (scale h, scale w, bands) once it is done.
        error: Why it could not be.
        told: Called with the part of it that is done, in (0, 1], while it is computed.
    """

    lr: np.ndarray
    size: tuple[int, int]
    dtype: str
    place: Any = None
    result: Any = None
    error: RunError | None = None
    told: Callable[[float], None] | None = None

    @property
    def open(self) -> bool:
        """Whether it waits to be done."""
        return self.result is None and self.error is None


def rows_of(picture: np.ndarray, span: Span) -> np.ndarray:
    """The rows that a span reads of a picture in memory, going round its ends."""
    if span.start >= 0 and span.end <= len(picture):
        return picture[span.start : span.end]
    return picture.take(np.arange(span.start, span.end), axis=0, mode="wrap")


def cut_row(strip: np.ndarray, row: Span, rows: Axis, columns: Axis, dtype: str) -> Iterator[Tile]:
    """The tiles of a row of them.

    Args:
        strip: (row.end - row.start, width, bands), the rows that they read.
        row: Where they lie.
        rows: The plan of the height, for the tiles' length.
        columns: The plan of the width.
        dtype: Of the results.
    """
    for column in columns.spans:
        part = rows_of(strip.swapaxes(0, 1), column).swapaxes(0, 1)
        lr = np.zeros((rows.length, columns.length, strip.shape[2]), strip.dtype)
        lr[: part.shape[0], : part.shape[1]] = part
        yield Tile(lr, part.shape[:2], dtype, (row, column))


def kept(result: np.ndarray, row: Span, column: Span, scale: int) -> np.ndarray:
    """The part of a tile's result that is not a neighbour's."""
    top, left = row.keep_start - row.start, column.keep_start - column.start
    height, width = row.keep_end - row.keep_start, column.keep_end - column.keep_start
    return result[top * scale : (top + height) * scale, left * scale : (left + width) * scale]
