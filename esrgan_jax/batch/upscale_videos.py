"""Upscales videos frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from esrgan_jax.batch.jobs import Job, ResultOptions
from esrgan_jax.batch.made_by import record
from esrgan_jax.batch.report import Report
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.upscaling.strips import Strips, prefetched
from esrgan_jax.upscaling.upscaler import Upscaler
from esrgan_jax.video.target import check_target
from esrgan_jax.video.video_file import Video, open_video


@dataclass(frozen=True)
class VideoJob:
    """A video whose result can be written.

    Attributes:
        video: With the aspect of the result's pixels.
        height, width: Of the result.
        notes: For the user.
    """

    job: Job
    video: Video
    height: int
    width: int
    notes: list[str]


def open_job(job: Job, upscaler: Upscaler, options: ResultOptions) -> VideoJob:
    """Reads a video, and finds what its result will be.

    Raises:
        InputError: It cannot be read, or not be written so.
    """
    source, target = job
    opened = open_video(source)
    height, width = options.result_size(opened.height, opened.width, upscaler)
    if options.size:
        (height, width), opened = _shown(opened, options.size), replace(opened, aspect=Fraction(1))
    notes = check_target(opened, target, height=height, width=width, **_options(options))
    return VideoJob(job, opened, height, width, notes)


def _shown(video: Video, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of square pixels; a side of 0 follows from how the video is shown.

    That side is even: encoders have no odd sizes in the kind of colours that all players play.
    """
    width, height = size
    shown = video.width * video.aspect / video.height
    return (
        height or max(2 * round(width / shown / 2), 2),
        width or max(2 * round(height * shown / 2), 2),
    )


def _options(options: ResultOptions) -> dict[str, Any]:
    return {"quality": options.quality, "depth": options.depth, "lossless": options.lossless}


def upscale_video(
    upscaler: Upscaler, opened: VideoJob, options: ResultOptions, report: Report
) -> None:
    """Upscales a video; if it cannot be done, that is reported."""
    from esrgan_jax.video.writer import write_video

    source, target = opened.job
    video, size = opened.video, (opened.height, opened.width)
    deep = (options.depth or video.look.bits) > 8
    dtype = np.dtype(np.uint16 if deep else np.uint8)

    def upscale(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        given = (
            Strips(
                *frame.shape,
                dtype=video.dtype,
                rows=iter([frame]),
                result_dtype=dtype,
                result_size=size,
            )
            for frame in frames
        )
        for strips in upscaler.stream(prefetched(given, ahead=4), progress=report.advance):
            yield np.concatenate(list(strips.rows))

    def begun(frames: int) -> None:
        report.note(source, f"goes on after {frames} of its {video.frames} frames")
        report.done_before(frames * size[0] * size[1])

    for note in opened.notes:
        report.note(source, note)
    try:
        for note in write_video(
            video,
            target,
            upscale,
            height=size[0],
            width=size[1],
            **_options(options),
            software=record(upscaler.name, source, options.settings),
            begun=begun,
        ):
            report.note(source, note)
    except (InputError, RunError) as error:
        report.failed(source, error)
    else:
        report.done(source, target, size)
