"""Picture files and films through an upscaler: read, computed and written at the same time."""

import itertools
import queue
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax import __version__, film
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.picture_reader import Picture, open_picture
from esrgan_jax.picture_writer import check_target, output_dtype, write_rows
from esrgan_jax.strips import Strips, prefetched
from esrgan_jax.upscale_jobs import STREAM, Job, is_film
from esrgan_jax.upscale_report import Report
from esrgan_jax.upscale_step import result_bands
from esrgan_jax.upscaler import Upscaler, result_size

WRITERS = 4  # pictures that are being compressed at a time
WAITING = 2  # strips of one, for the one that compresses


@dataclass(frozen=True)
class Wishes:
    """What the results shall be.

    Attributes:
        scale: Of the result over the input; None for the network's.
        size: (width, height) instead, a side of 0 follows from the other.
        suffix: The format of standard output.
        depth: 8, 16 or 32 (floating point) bits; None for the input's.
        quality: 1 to 100, for formats that have it.
        lossless: Where the format can.
    """

    scale: float | None = None
    size: tuple[int, int] | None = None
    suffix: str = ".png"
    depth: int | None = None
    quality: int | None = None
    lossless: bool = False

    def result_size(self, height: int, width: int, upscaler: Upscaler) -> tuple[int, int]:
        """(height, width) of a picture's result."""
        wished = result_size((height, width), self.scale, self.size)
        return wished or (height * upscaler.scale, width * upscaler.scale)


@dataclass(eq=False)
class _Work:
    """A picture on its way to its file."""

    job: Job
    picture: Picture
    dtype: np.dtype
    frames_left: int
    strips: queue.Queue = field(default_factory=lambda: queue.Queue(WAITING))
    saving: Future = field(default_factory=Future)  # until it is started, one that never ends


def upscale_files(upscaler: Upscaler, jobs: Sequence[Job], wishes: Wishes, report: Report) -> None:
    """Upscales files; what cannot be done is reported, and the others are done.

    Strips are read by one thread and compressed by others while this one computes; tiles of
    several pictures share batches.

    Args:
        upscaler: The network.
        jobs: (source, target), as `upscale_jobs.plan` gives them.
        wishes: What the results shall be.
        report: Told of everything.
    """
    pictures = [job for job in jobs if not is_film(job[0])]
    read = prefetched(_opened(pictures, upscaler, wishes, report))
    active: list[_Work] = []
    with ThreadPoolExecutor(WRITERS) as pool:
        try:
            for strips in upscaler.stream(read, progress=report.advance):
                work: _Work = strips.key
                if work not in active:
                    while len(active) >= WRITERS:
                        _wait(active.pop(0), report)
                    work.saving = pool.submit(_write, work, strips, wishes, upscaler.name)
                    active.append(work)
                _hand_over(work, strips.rows)
                while active and active[0].saving.done():
                    _wait(active.pop(0), report)
        except BaseException as error:
            for work in active:
                _put(work, error)
            raise
        for work in active:
            _wait(work, report)
    for source, target in jobs:
        if is_film(source):
            _upscale_film(upscaler, source, target, wishes, report)


def _opened(
    jobs: Iterable[Job], upscaler: Upscaler, wishes: Wishes, report: Report
) -> Iterator[Strips]:
    """The pictures that can be opened and whose results can be written, frame by frame."""
    for job in jobs:
        source, target = job
        try:
            picture = open_picture(sys.stdin.buffer.read() if source == STREAM else source)
            suffix = wishes.suffix if target == STREAM else target.suffix
            dtype = output_dtype(suffix, picture.dtype, wishes.depth)
            height, width = wishes.result_size(picture.height, picture.width, upscaler)
            check_target(
                suffix,
                height=height,
                width=width,
                bands=result_bands(picture.bands, upscaler.module),
                dtype=dtype,
                frames=picture.frames,
                quality=wishes.quality,
                lossless=wishes.lossless,
            )
        except InputError as error:
            report.failed(source, error)
            continue
        for note in picture.notes:
            report.note(source, note)
        work = _Work(job, picture, dtype, picture.frames)
        rows = picture.rows()
        for _ in range(picture.frames):
            yield Strips(
                picture.height,
                picture.width,
                picture.bands,
                picture.dtype,
                _next_frame(rows, picture.height),
                result_dtype=dtype,
                result_size=(height, width),
                key=work,
            )


def _next_frame(rows: Iterator[np.ndarray], height: int) -> Iterator[np.ndarray]:
    read = 0
    while read < height and (strip := next(rows, None)) is not None:
        read += len(strip)
        yield strip


def _hand_over(work: _Work, rows: Iterator[np.ndarray]) -> None:
    """Gives the strips of a frame to the thread that writes them, or what kept them from coming."""
    try:
        for strip in rows:
            if not _put(work, strip):
                return
    except (InputError, RunError) as error:
        _put(work, error)
        return
    work.frames_left -= 1
    if not work.frames_left:
        _put(work, None)


def _put(work: _Work, item: Any) -> bool:
    """False if nobody writes any more."""
    while not work.saving.done():
        try:
            work.strips.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def _write(work: _Work, strips: Strips, wishes: Wishes, name: str) -> tuple[int, int]:
    def rows() -> Iterator[np.ndarray]:
        while (item := work.strips.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    to_stream, incoming = work.job[1] == STREAM, rows()
    first = next(incoming)  # before anything is written
    write_rows(
        sys.stdout.buffer if to_stream else work.job[1],
        itertools.chain([first], incoming),
        height=strips.height,
        width=strips.width,
        bands=strips.bands,
        dtype=strips.dtype,
        frames=work.picture.frames,
        suffix=wishes.suffix if to_stream else None,
        like=work.picture,
        software=f"esrgan_jax {__version__}, {name}",
        quality=wishes.quality,
        lossless=wishes.lossless,
    )
    return strips.height, strips.width


def _wait(work: _Work, report: Report) -> None:
    try:
        report.done(*work.job, work.saving.result())
    except (InputError, RunError) as error:
        report.failed(work.job[0], error)


def _upscale_film(
    upscaler: Upscaler, source: Path, target: Path, wishes: Wishes, report: Report
) -> None:
    try:
        opened = film.open_film(source)
        height, width = wishes.result_size(opened.height, opened.width, upscaler)
        told = {"height": height, "width": width, "quality": wishes.quality}
        notes = [*opened.notes, *film.check_target(opened, target, **told)]
        dtype = np.dtype(opened.dtype)

        def upscale(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            given = (
                Strips(
                    *frame.shape,
                    dtype=dtype,
                    rows=iter([frame]),
                    result_dtype=dtype,
                    result_size=(height, width),
                )
                for frame in frames
            )
            for strips in upscaler.stream(prefetched(given, ahead=4), progress=report.advance):
                yield np.concatenate(list(strips.rows))

        for note in notes:
            report.note(source, note)
        software = f"esrgan_jax {__version__}, {upscaler.name}"
        for note in film.write_film(opened, target, upscale, software=software, **told):
            report.note(source, note)
    except (InputError, RunError) as error:
        report.failed(source, error)
    else:
        report.done(source, target, (height, width))
