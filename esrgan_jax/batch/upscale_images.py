"""Upscales image files; reading, computing and writing run at the same time."""

import itertools
import os
import queue
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from esrgan_jax.batch.disk_space import shortage
from esrgan_jax.batch.jobs import STREAM, Job, ResultOptions, is_video
from esrgan_jax.batch.made_by import make_record
from esrgan_jax.batch.report import Report
from esrgan_jax.batch.upscale_videos import VideoJob, open_job, upscale_video
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import too_long
from esrgan_jax.images.bands import count_further_bands
from esrgan_jax.images.lost import lost
from esrgan_jax.images.reader import OpenedImage, open_image
from esrgan_jax.images.writer import check_target, output_dtype, write_rows
from esrgan_jax.upscaling.planes import result_bands
from esrgan_jax.upscaling.strips import Strips, prefetched
from esrgan_jax.upscaling.upscaler import Upscaler

WRITERS = 4  # images that are compressed at the same time
QUEUED_STRIPS = 2  # strips of an image that wait for compression

_Item: TypeAlias = np.ndarray | BaseException | None  # a strip, an error, or the end


@dataclass(eq=False)
class _Work:
    """An image that is being upscaled and written."""

    job: Job
    image: OpenedImage
    made_by: str
    frames_left: int
    strips: queue.Queue[_Item] = field(default_factory=lambda: queue.Queue(QUEUED_STRIPS))
    # The writing: (height, width) of the result. Until it starts, one that never ends.
    saving: Future[tuple[int, int]] = field(default_factory=Future[tuple[int, int]])
    unreadable: bool = False  # a frame could not be read, so later ones cannot be either


def read_stream(jobs: Sequence[Job]) -> bytes:
    """Reads standard input if a job needs it, else returns b"". It can be read only once."""
    return sys.stdin.buffer.read() if any(source == STREAM for source, _ in jobs) else b""


def upscale_files(
    upscaler: Upscaler,
    jobs: Sequence[Job],
    options: ResultOptions,
    report: Report,
    stream: bytes | None = None,
) -> None:
    """Upscales files. Failures are reported, and the other files are still upscaled.

    All files are checked first. Then strips are read by one thread and compressed by others while
    this one computes. Tiles of several images share batches.

    Args:
        upscaler: The network.
        jobs: (source, target) pairs, as from `jobs.plan`.
        options: Size and format of the results.
        report: Receives progress, notes and failures.
        stream: The result of `read_stream`, if it was already called.
    """
    if stream is None:  # not in a thread, which could not be interrupted
        stream = read_stream(jobs)
    images: list[Job] = []
    videos: list[VideoJob] = []
    total = 0
    sizes: list[tuple[Path, int]] = []
    for job in jobs:
        try:
            if job[1] != STREAM and os.path.isdir(job[1]):
                raise InputError(f"{job[1]}: cannot be written: it is a folder")
            if job[1] != STREAM and (reason := too_long(job[1])):
                raise InputError(f"{job[1]}: cannot be written: {reason}")
            if is_video(job[0]):
                video = open_job(job, upscaler, options)
                total += video.video.frames * video.height * video.width
                videos.append(video)
            else:
                image, (height, width), dtype = _open_image(job, stream, upscaler, options)
                pixels = image.frames * height * width
                total += pixels
                if job[1] != STREAM:
                    sizes.append((job[1], pixels * image.bands * dtype.itemsize))
                images.append(job)
        except (InputError, RunError) as error:
            report.failed(job[0], error)
    for folder, note in shortage(sizes).items():
        report.note(folder, note)
    report.begin(total)
    read = prefetched(_opened(images, stream, upscaler, options, report))
    with closing(read):  # type: ignore[arg-type]
        _upscale_images(upscaler, read, options, report)
    for video in videos:
        upscale_video(upscaler, video, options, report)


def _open_image(
    job: Job, stream: bytes, upscaler: Upscaler, options: ResultOptions
) -> tuple[OpenedImage, tuple[int, int], np.dtype]:
    """Opens an image and checks its target; also returns the result's (height, width) and dtype."""
    source, target = job
    image = open_image(stream if source == STREAM else source)
    suffix = options.suffix if target == STREAM else target.suffix
    dtype = output_dtype(suffix, image.dtype, options.depth)
    height, width = options.result_size(image.height, image.width, upscaler)
    bands, link = image.bands, upscaler
    while link is not None:
        bands, link = result_bands(bands, link.module), link.then
    check_target(
        suffix,
        height=height,
        width=width,
        bands=bands,
        dtype=dtype,
        frames=image.frames,
        further_bands=count_further_bands(image.extra),
        quality=options.quality,
        lossless=options.lossless,
    )
    return image, (height, width), dtype


def _opened(
    jobs: Sequence[Job], stream: bytes, upscaler: Upscaler, options: ResultOptions, report: Report
) -> Iterator[Strips]:
    """Yields the images, frame by frame."""
    for job in jobs:
        try:
            image, size, dtype = _open_image(job, stream, upscaler, options)
            source = stream if job[0] == STREAM else job[0]
            made_by = make_record(upscaler.name, source, options.settings)
        except InputError as error:  # the file changed after the check
            report.failed(job[0], error)
            continue
        suffix = options.suffix if job[1] == STREAM else job[1].suffix
        seams = upscaler.seams(image.height, image.width)
        for note in (*image.notes, *lost(image, suffix), *([seams] if seams else [])):
            report.note(job[0], note)
        work = _Work(job, image, made_by, image.frames)
        rows = image.rows()
        for _ in range(image.frames):
            yield Strips(
                image.height,
                image.width,
                image.bands,
                image.dtype,
                _next_frame(rows, work),
                result_dtype=dtype,
                result_size=size,
                key=work,
            )
            if work.unreadable:
                break


def _next_frame(rows: Iterator[np.ndarray], work: _Work) -> Iterator[np.ndarray]:
    """Yields the strips of one frame."""
    read = 0
    while read < work.image.height:
        try:
            strip = next(rows)
        except InputError:
            work.unreadable = True
            raise
        read += len(strip)
        yield strip


def _upscale_images(
    upscaler: Upscaler, read: Iterator[Strips], options: ResultOptions, report: Report
) -> None:
    """Upscales images; up to `WRITERS` threads write them in the background."""
    active: list[_Work] = []
    with ThreadPoolExecutor(WRITERS) as pool:
        try:
            for strips in upscaler.stream(read, progress=report.advance):
                work: _Work = strips.key
                if work.frames_left == work.image.frames:  # its first frame
                    while len(active) >= WRITERS:
                        _wait(active.pop(0), report)
                    active.append(work)
                    work.saving = pool.submit(_write, work, strips, options)
                _hand_over(work, strips.rows)
                while active and active[0].saving.done():
                    _wait(active.pop(0), report)
        except BaseException as error:
            for work in active:
                _put(work, error)
            raise
        for work in active:
            _wait(work, report)


def _hand_over(work: _Work, rows: Iterator[np.ndarray]) -> None:
    """Passes the strips of a frame, or the error that ends them, to the thread that writes them."""
    work.frames_left -= 1
    try:
        for strip in rows:
            if not _put(work, strip):
                return
    except (InputError, RunError) as error:
        _put(work, error)
        return
    if not work.frames_left:
        _put(work, None)


def _put(work: _Work, item: _Item) -> bool:
    """Queues an item; returns False if the writing has already ended."""
    while not work.saving.done():
        try:
            work.strips.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def _write(work: _Work, strips: Strips, options: ResultOptions) -> tuple[int, int]:
    """Writes an image from its queue of strips; returns the result's (height, width)."""

    def rows() -> Iterator[np.ndarray]:
        while (item := work.strips.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    to_stream, incoming = work.job[1] == STREAM, rows()
    first = next(incoming)  # may raise, before a file is made
    write_rows(
        sys.stdout.buffer if to_stream else work.job[1],
        itertools.chain([first], incoming),
        height=strips.height,
        width=strips.width,
        bands=strips.bands,
        dtype=strips.dtype,
        frames=work.image.frames,
        suffix=options.suffix if to_stream else None,
        like=work.image,
        software=work.made_by,
        quality=options.quality,
        lossless=options.lossless,
    )
    return strips.height, strips.width


def _wait(work: _Work, report: Report) -> None:
    """Waits until an image is written, and reports it."""
    try:
        report.done(*work.job, work.saving.result())
    except (InputError, RunError) as error:
        report.failed(work.job[0], error)
