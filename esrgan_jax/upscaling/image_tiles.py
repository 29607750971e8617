"""Upscales images as strips of rows: cuts them into tiles, and joins the results."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

import jax
import numpy as np

from esrgan_jax.errors import InputError
from esrgan_jax.upscaling.planes import result_bands
from esrgan_jax.upscaling.strips import Strips, quantized, resized, white_level
from esrgan_jax.upscaling.tile import Tile, cut_row, paste, rows_of
from esrgan_jax.upscaling.tile_runner import TileRunner
from esrgan_jax.upscaling.tiles import Axis, Span

RESULT_STRIP_BYTES = 192 * 2**20  # of a result's rows that are joined at a time
SLICE_BYTES = 8 * 2**20  # of a result's rows that are yielded at a time


@dataclass(eq=False)
class _Image:
    """An image that is being upscaled."""

    source: Strips
    dtype: str  # of the tiles' results
    bands: int  # of the result
    rows: Axis
    columns: Axis
    progress: "ImageProgress"
    abandoned: bool = False  # the rest of its tiles is skipped


class ImageProgress:
    """Reports the finished pixels of an image's result from the progress of its tiles.

    Args:
        report: Called with the number of newly finished pixels.
        pixels: Number of pixels of the result.
        start: Part of the work on the image, in [0, 1], that earlier networks do.
        end: The same after this network.
    """

    def __init__(self, report: Callable[[int], None], pixels: int, start: float, end: float):
        self.report, self.pixels, self.start, self.end = report, pixels, start, end
        self.done, self.reported = 0.0, 0

    def of_tile(self, share: float) -> Callable[[float], None]:
        """Returns a function to call with the finished part of a tile, in (0, 1].

        Args:
            share: The part of the image that the tile fills.
        """
        before = 0.0

        def report(done: float) -> None:
            nonlocal before
            self.done = min(self.done + share * max(done - before, 0), 1)
            before = max(done, before)
            first = round(self.start * self.pixels)
            now = round((self.start + self.done * (self.end - self.start)) * self.pixels) - first
            if now > self.reported:
                self.report(now - self.reported)
                self.reported = now

        return report


def upscale_strips(
    runner: TileRunner,
    images: Iterable[Strips],
    tile: int,
    overlap: int,
    *,
    last: bool,
    progress: Callable[[int], None] | None = None,
    part: tuple[float, float] = (0, 1),
    total_scale: int | None = None,
) -> Iterator[Strips]:
    """Upscales images in order; an error of one is raised while its rows are read.

    Args:
        runner: Runs the network.
        images: Images, which are read ahead, so that tiles of several share batches.
        tile: Longest side of a tile in LR pixels.
        overlap: LR pixels that neighbouring tiles share.
        last: Whether the results get their final size and dtype; otherwise they are float32 for
            the next network.
        progress: Called with the number of newly finished pixels of the final images.
        part: (start, end) of this network's part of the work on an image, within 0 and 1.
        total_scale: Scale of this network and all later ones; None if it is the last.
    """
    scale: int = runner.module.scale

    def progress_of(source: Strips) -> ImageProgress:
        factor = total_scale or scale
        height, width = source.result_size or (source.height * factor, source.width * factor)
        return ImageProgress(progress or (lambda _: None), height * width, *part)

    tiles = runner.run(_tiles(runner, images, tile, overlap, last, progress_of))
    for image, own in groupby(tiles, key=lambda tile: tile.image):
        source = image.source
        size = source.height * scale, source.width * scale
        final_size = source.result_size or size
        rows, dtype = _rows(image, own, scale), np.dtype(image.dtype)
        if last and final_size != size:
            rows = quantized(resized(rows, size, final_size), source.result_dtype)
            size, dtype = final_size, source.result_dtype
        yield replace(
            source, height=size[0], width=size[1], bands=image.bands, dtype=dtype, rows=rows
        )
        image.abandoned = True  # so that `groupby` has little left to skip


def _tiles(
    runner: TileRunner,
    images: Iterable[Strips],
    tile: int,
    overlap: int,
    last: bool,
    progress_of: Callable[[Strips], ImageProgress],
) -> Iterator[Tile]:
    """Cuts the tiles of each image, from the top left to the bottom right.

    If an image cannot be read or upscaled, its last tile carries the error.
    """
    scale = runner.module.scale
    for source in images:
        size = source.height * scale, source.width * scale
        dtype = "float32"
        if last and source.result_size in (None, size) and source.result_dtype.kind == "u":
            dtype = source.result_dtype.name
        bands, error = source.bands, None
        try:
            bands = result_bands(source.bands, runner.module)
        except InputError as reason:
            error = reason
        rows, columns = plan_image(runner, source.height, source.width, bands, dtype, tile, overlap)
        image = _Image(source, dtype, bands, rows, columns, progress_of(source))
        try:
            if error is not None:
                raise error
            yield from _cut(image, runner)
        except Exception as reason:  # raised where the image's rows are read
            nothing = np.zeros((0, 0, bands), source.dtype)
            place = rows.spans[-1], columns.spans[-1]
            yield Tile(nothing, (0, 0), dtype, *place, image=image, error=reason)


def plan_image(
    runner: TileRunner, height: int, width: int, bands: int, dtype: str, tile: int, overlap: int
) -> tuple[Axis, Axis]:
    """Plans the tiles of an image, rows and columns, see `TileRunner.plan`.

    Args:
        runner: Runs the network.
        height: Height of the LR image, which is padded to a multiple of `size_multiple`.
        width: Width of the LR image, likewise.
        bands: Bands of the result.
        dtype: Dtype of the result.
        tile: Longest side of a tile in LR pixels.
        overlap: LR pixels that neighbouring tiles share.
    """
    row_bytes = width * runner.module.scale**2 * bands * np.dtype(dtype).itemsize
    tallest = max(RESULT_STRIP_BYTES // row_bytes // 32 * 32, 32) + overlap
    if runner.border != "wrap":  # a seamless texture needs no padding
        height, width = (n + -n % runner.multiple for n in (height, width))
    return runner.plan(height, width, tile, overlap, tallest)


def separate_constant_alpha(tile: Tile, runner: TileRunner) -> None:
    """Removes constant alpha from a tile, since upscaling does not change it."""
    if tile.lr.shape[2] not in (2, 4) or runner.module.in_channels == 4:
        return
    alpha = tile.lr[: tile.size[0], : tile.size[1], -1]
    low, high = jax.device_get((alpha.min(), alpha.max()))
    if low == high:
        tile.constant_alpha = low / white_level(alpha.dtype)
        tile.lr = tile.lr[..., :-1]
        if not tile.constant_alpha:
            shape = (n * runner.module.scale for n in tile.lr.shape[:2])
            bands = result_bands(tile.lr.shape[2] + 1, runner.module) - 1
            tile.result = np.zeros((*shape, bands), tile.dtype)


def _cut(image: _Image, runner: TileRunner) -> Iterator[Tile]:
    """Cuts the tiles of an image."""
    source, rows, columns = image.source, image.rows, image.columns
    # Columns that are added on the right.
    right = max(columns.spans[-1].keep_end - source.width, 0)
    pixels = rows.spans[-1].keep_end * columns.spans[-1].keep_end
    held, top, strips = np.zeros((0, source.width, source.bands), source.dtype), 0, source.rows
    if wraps := runner.border == "wrap":  # a seamless texture, whose first rows need its last ones
        strips = iter([np.concatenate(list(strips))])
    for row in rows.spans:
        while top + len(held) < min(row.end, source.height):
            held = np.concatenate([held, next(strips)])
        if wraps:
            strip = rows_of(held, row)
        else:
            held, top = held[row.start - top :], row.start
            strip = held[: row.end - top]
            # Mirrored as in Real-ESRGAN, so that the pixel grid stays in place.
            below = row.end - row.start - len(strip)
            strip = np.pad(strip, [(0, below), (0, right), (0, 0)], "reflect")
        for tile in cut_row(strip, row, rows, columns, image.dtype):
            tile.image = image
            share = _length(tile.row) * _length(tile.column) / pixels
            tile.progress = image.progress.of_tile(share)
            separate_constant_alpha(tile, runner)
            yield tile
            if image.abandoned:
                return


def _length(span: Span) -> int:
    return span.keep_end - span.keep_start


def _rows(image: _Image, tiles: Iterator[Tile], scale: int) -> Iterator[np.ndarray]:
    """Yields the strips of an image's result, one row of tiles after the other."""
    source, columns = image.source, image.columns.spans
    last = image.rows.spans[-1]
    strip = np.zeros(0)
    for tile in tiles:
        if tile.error is not None:
            image.abandoned = True
            raise tile.error
        row = tile.row
        if tile.column is columns[0]:
            shape = _length(row) * scale, columns[-1].keep_end * scale, image.bands
            strip = np.empty(shape, image.dtype)
        paste(tile, strip, scale, row.keep_start)
        assert tile.progress
        tile.progress(1)
        if tile.column is not columns[-1]:
            continue
        height = min(source.height, row.keep_end) - row.keep_start
        done, strip = strip[: height * scale, : source.width * scale], np.zeros(0)
        step = max(SLICE_BYTES // done[:1].nbytes, 1)
        for top in range(0, len(done), step):
            # A copy, since a view would keep all rows in memory.
            yield done[top : top + step].copy()
        del done
        if row is last:
            return  # without waiting for the first tile of the next image
