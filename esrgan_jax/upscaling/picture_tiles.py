"""Pictures cut into tiles, and put together again, strip by strip."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from esrgan_jax.errors import InputError
from esrgan_jax.upscaling.planes import result_bands
from esrgan_jax.upscaling.step import peak
from esrgan_jax.upscaling.strips import Strips, quantized, resized
from esrgan_jax.upscaling.tile import Tile, cut_row, kept, rows_of
from esrgan_jax.upscaling.tile_runner import TileRunner
from esrgan_jax.upscaling.tiles import Axis, Span

STRIP_BYTES = 192 * 2**20  # of a result's rows that are put together at a time
SLICE_BYTES = 8 * 2**20  # of them that are handed on at a time


@dataclass(eq=False)
class _Job:
    """A picture that is being upscaled: what it is, how it is cut, and what became of it."""

    source: Strips
    dtype: str  # that tiles come back in
    bands: int
    rows: Axis
    columns: Axis
    count: "_Count"
    error: Exception | None = None
    abandoned: bool = False  # no more of it is wanted
    ended: bool = False


@dataclass(eq=False)
class _Count:
    """Tells whole pixels of a picture's result, of parts of its tiles.

    Attributes:
        progress: Called with the pixels.
        pixels: Of the result.
        start: The part of the whole work that is done before this network's.
        end: The part that is done with it.
    """

    progress: Callable[[int], None]
    pixels: int
    start: float
    end: float
    done: float = 0  # of this network's work
    told: int = 0

    def tell(self, place: "_Place", done: float) -> None:
        """A part of a tile is done, in (0, 1]; it may be told again, and less."""
        self.done = min(self.done + place.share * max(done - place.done, 0), 1)
        place.done = max(done, place.done)
        before = round(self.start * self.pixels)
        now = round((self.start + self.done * (self.end - self.start)) * self.pixels) - before
        if now > self.told:
            self.progress(now - self.told)
            self.told = now


@dataclass(eq=False)
class _Place:
    """Where a tile lies, its alpha where that is a single value, and how far it is.

    Attributes:
        share: Of the picture's pixels that are filled with it.
        done: The part of it that was told.
    """

    row: Span
    column: Span
    share: float
    alpha: float | None = None
    done: float = 0


@dataclass(eq=False)
class _End:
    """Behind the last tile of a picture."""


def enlarged(
    runner: TileRunner,
    pictures: Iterable[Strips],
    tile: int,
    overlap: int,
    *,
    last: bool,
    progress: Callable[[int], None] | None = None,
    part: tuple[float, float] = (0, 1),
    total_scale: int | None = None,
) -> Iterator[Strips]:
    """Upscales pictures in order; an error of one comes out of its rows.

    Args:
        runner: The network.
        pictures: Read ahead of what is yielded, so that tiles of several share batches.
        tile: Longest side of a tile.
        overlap: What neighbouring tiles share.
        last: Whether the results are finished pictures, of the wished size and dtype; otherwise
            they are float32 for the next network.
        progress: Called with the pixels of the finished picture whenever some are done.
        part: Of the work on a picture, from 0 to 1, which this network does.
        total_scale: Of this network and those behind it; None if it is the last.
    """
    scale: int = runner.module.scale

    def count(source: Strips) -> _Count:
        made = total_scale or scale
        height, width = source.result_size or (source.height * made, source.width * made)
        return _Count(progress or (lambda _: None), height * width, *part)

    items = runner.run(_tiles(runner, pictures, tile, overlap, last, count))
    for job in items:
        source, size = job.source, (job.source.height * scale, job.source.width * scale)
        wanted = source.result_size or size
        rows = _rows(job, items, scale)
        dtype = np.dtype(job.dtype)
        if last and wanted != size:
            rows = quantized(resized(rows, size, wanted), source.result_dtype)
            size, dtype = wanted, source.result_dtype
        yield replace(
            source, height=size[0], width=size[1], bands=job.bands, dtype=dtype, rows=rows
        )
        job.abandoned = True
        while not job.ended:  # whatever was not read
            job.ended = isinstance(next(items), _End)


def _tiles(
    runner: TileRunner,
    pictures: Iterable[Strips],
    tile: int,
    overlap: int,
    last: bool,
    count: Callable[[Strips], _Count],
) -> Iterator[Any]:
    """Each picture's job, its tiles from the top left to the bottom right, and its end."""
    wrap = runner.border == "wrap"
    for source in pictures:
        size = source.height * runner.module.scale, source.width * runner.module.scale
        dtype = "float32"
        if last and source.result_size in (None, size) and source.result_dtype.kind == "u":
            dtype = source.result_dtype.name
        # What a network folds is filled up at the far sides; what goes round has none.
        sides = (source.height, source.width)
        height, width = (n if wrap else n + -n % runner.multiple for n in sides)
        bands, error = source.bands, None
        try:
            bands = result_bands(source.bands, runner.module)
        except InputError as reason:
            error = reason
        row_bytes = size[1] * runner.module.scale * bands * np.dtype(dtype).itemsize
        tallest = max(STRIP_BYTES // row_bytes // 32 * 32, 32) + overlap
        rows, columns = runner.plan(height, width, tile, overlap, tallest)
        job = _Job(source, dtype, bands, rows, columns, count(source), error)
        yield job
        try:
            if job.error is None:
                yield from _cut(job, runner, width - source.width)
        except Exception as error:  # of whoever reads the picture, who gets it back
            job.error = error
        yield _End()


def _cut(job: _Job, runner: TileRunner, right: int) -> Iterator[Tile]:
    source, rows = job.source, job.rows
    held, top, strips = np.zeros((0, source.width, source.bands), source.dtype), 0, source.rows
    if round_trip := rows.spans[0].start < 0:  # a texture, whose first rows need its last
        strips = iter([np.concatenate(list(strips))])
    for row in rows.spans:
        while top + len(held) < min(row.end, source.height):
            held = np.concatenate([held, next(strips)])
        if round_trip:
            strip = rows_of(held, row)
        else:
            held, top = held[row.start - top :], row.start
            strip = held[: row.end - top]
            # Mirrored as Real-ESRGAN does it: the pixel grid stays in place.
            below = row.end - row.start - len(strip)
            strip = np.pad(strip, [(0, below), (0, right), (0, 0)], "reflect")
        for tile in cut_row(strip, row, rows, job.columns, job.dtype):
            tile.place = place = _Place(*tile.place, share=_share(job, *tile.place))
            tile.told = partial(job.count.tell, place)
            alpha = tile.lr[: tile.size[0], : tile.size[1], -1]
            separate = tile.lr.shape[2] in (2, 4) and runner.module.in_channels != 4
            if separate and alpha.min() == alpha.max():
                # What comes of it is known without computing it, see `alpha.enlarged_alpha`.
                tile.place.alpha = alpha[0, 0] / peak(alpha.dtype)
                tile.lr = tile.lr[..., :-1]
                if not tile.place.alpha:
                    shape = (n * runner.module.scale for n in tile.lr.shape[:2])
                    tile.result = np.zeros((*shape, job.bands - 1), job.dtype)
            yield tile
            if job.abandoned:
                return


def _share(job: _Job, row: Span, column: Span) -> float:
    """The part of a picture that a tile fills."""
    tall, wide = (axis.spans[-1].keep_end for axis in (job.rows, job.columns))
    pixels = (row.keep_end - row.keep_start) * (column.keep_end - column.keep_start)
    return pixels / (tall * wide)


def _rows(job: _Job, items: Iterator[Any], scale: int) -> Iterator[np.ndarray]:
    """The picture's strips: one for each row of tiles."""
    source, columns, filled = job.source, job.columns.spans, 0
    strip = np.zeros(0)
    for item in items:
        if isinstance(item, _End):
            job.ended = True
            if job.error is not None:
                raise job.error
            return
        if item.error is not None and job.error is None:
            job.error, job.abandoned = item.error, True
        if job.error is not None:
            continue
        row, column, alpha = item.place.row, item.place.column, item.place.alpha
        if not filled:
            height, width = row.keep_end - row.keep_start, columns[-1].keep_end
            strip = np.empty((height * scale, width * scale, job.bands), job.dtype)
        part = strip[:, column.keep_start * scale : column.keep_end * scale]
        result = kept(item.result, row, column, scale)
        part[..., : result.shape[-1]] = result
        if alpha is not None:
            full = peak(part.dtype)
            part[..., -1] = alpha if full == 1 else np.rint(alpha * full)
        job.count.tell(item.place, 1)
        filled = (filled + 1) % len(columns)
        if not filled:
            height = min(source.height, row.keep_end) - row.keep_start
            done, strip = strip[: height * scale, : source.width * scale], np.zeros(0)
            some = max(SLICE_BYTES // done[:1].nbytes, 1)
            for top in range(0, len(done), some):
                # A copy, as a view would keep all rows alive for as long as it waits.
                yield done[top : top + some].copy()
            del done
