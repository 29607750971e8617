"""Images as strips of rows from top to bottom, so that no whole image is in memory."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from esrgan_jax.imresize import taps

LARGEST_STRIP = 2**24  # values of a resized strip, since a tile may have many rows


@dataclass(frozen=True)
class Strips:
    """An image as strips of rows.

    Attributes:
        height: Pixels.
        width: Pixels.
        bands: 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha).
        dtype: Of the rows: uint8, uint16, or float32 in [0, 1].
        rows: Arrays (n, width, bands) of any n, from top to bottom, to be read once.
        result_dtype: Dtype of the final result.
        result_size: (height, width) of the final result; None for that of the networks.
        key: Anything by which the caller identifies the image.
    """

    height: int
    width: int
    bands: int
    dtype: np.dtype
    rows: Iterator[np.ndarray]
    result_dtype: np.dtype
    result_size: tuple[int, int] | None = None
    key: Any = None


def white_level(dtype: DTypeLike) -> int:
    """Returns the value of white in an image of a dtype: 1 for floats, else the largest."""
    dtype = np.dtype(dtype)
    return 1 if np.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).max)


def resized(
    rows: Iterator[np.ndarray], from_size: tuple[int, int], to_size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Resizes like `imresize.imresize`, antialiased bicubic, in float32.

    Args:
        rows: Strips (n, from_size[1], bands) float32.
        from_size: (height, width) of the image.
        to_size: (height, width) of the result.

    Yields:
        Strips (m, to_size[1], bands) float32, unclamped.
    """
    tall, wide = (
        taps(before, after, after / before)
        for before, after in zip(from_size, to_size, strict=True)
    )
    indices, weights = tall
    first, last = indices.min(axis=1), indices.max(axis=1)
    # Mirrored borders: a row is dropped when no later row of the result needs it.
    needed = np.minimum.accumulate(first[::-1])[::-1]
    complete = np.maximum.accumulate(last)
    held: np.ndarray | None = None
    top = done = 0
    for strip in _split(rows, to_size[1]):
        strip = _weighted(strip.swapaxes(0, 1), *wide).swapaxes(0, 1)
        held = strip if held is None else np.concatenate([held, strip])
        ready = int(np.searchsorted(complete, top + len(held)))
        step = _rows(to_size[1], held.shape[2])
        while done < ready:
            end = min(done + step, ready)
            yield _weighted(held, indices[done:end] - top, weights[done:end])
            done = end
        cut = int(needed[done]) - top if done < len(needed) else len(held)
        held, top = held[cut:], top + cut


def _split(strips: Iterator[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """Splits strips so that they are small even when resized to `width`."""
    for strip in strips:
        step = _rows(width, strip.shape[2])
        yield from (strip[top : top + step] for top in range(0, len(strip), step))


def _rows(width: int, bands: int) -> int:
    return max(LARGEST_STRIP // (width * bands), 1)


def _weighted(x: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns Σ weight · x[index] along the first axis, computed tap by tap."""
    result = np.zeros((len(indices), *x.shape[1:]), np.float32)
    for index, weight in zip(indices.T, weights.T.astype(np.float32), strict=True):
        result += weight[:, None, None] * x[index]
    return result


def quantized(rows: Iterator[np.ndarray], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Converts float32 to `dtype`: clamped to [0, 1] and, for integers, rounded half to even."""
    for strip in rows:
        strip = strip.clip(0, 1)
        if not np.issubdtype(dtype, np.floating):
            strip = np.rint(strip * np.float32(white_level(dtype)))
        yield strip.astype(dtype)


def prefetched(images: Iterable[Strips], ahead: int = 32) -> Iterator[Strips]:
    """Reads images in a thread, up to `ahead` strips before they are used.

    An error of an image's rows is raised while they are read, others by the iterator itself.
    """
    line: queue.Queue[Any] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                line.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        try:
            for image in images:
                if not put(image):
                    return
                try:
                    if not all(put(rows) for rows in image.rows):
                        return
                    put(_END)
                except Exception as error:
                    put(_Failure(error))
            put(_END)
        except Exception as error:
            put(_Failure(error))

    def rows() -> Iterator[Any]:
        while (item := line.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.reason
            yield item

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        for image in rows():
            inner = rows()
            yield replace(image, rows=inner)
            with contextlib.suppress(Exception):  # skips the rows that were not read
                for _ in inner:
                    pass
    finally:
        stop.set()
        thread.join()


_END = object()


@dataclass(frozen=True)
class _Failure:
    reason: Exception
