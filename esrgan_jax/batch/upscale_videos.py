"""Upscales videos frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from esrgan_jax.batch.jobs import Job, ResultOptions
from esrgan_jax.batch.made_by import make_record
from esrgan_jax.batch.report import Report
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.upscaling.strips import Strips, prefetched
from esrgan_jax.upscaling.upscaler import Upscaler
from esrgan_jax.video.target import EncodingOptions, check_video_target
from esrgan_jax.video.video_file import Video, open_video


@dataclass(frozen=True)
class VideoJob:
    """A video whose result can be written.

    Attributes:
        job: Source and target.
        video: The source, but with the aspect of the result's pixels.
        height, width: Size of the result, in pixels.
        notes: Notes for the user.
    """

    job: Job
    video: Video
    height: int
    width: int
    notes: list[str]


def open_job(job: Job, upscaler: Upscaler, options: ResultOptions) -> VideoJob:
    """Reads the properties of a video and checks that its result can be written.

    Raises:
        InputError: The video cannot be read, or its result cannot be written.
    """
    source, target = job
    opened = open_video(source)
    height, width = options.result_size(opened.height, opened.width, upscaler)
    if options.size:
        height, width = _square_size(opened, options.size)
        opened = replace(opened, aspect=Fraction(1))
    notes = check_video_target(opened, target, height=height, width=width, **_options(options))
    return VideoJob(job, opened, height, width, notes)


def _square_size(video: Video, size: tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) for square pixels; a side of 0 follows from the displayed aspect.

    That side is even, since 4:2:0 of H.264 and H.265 has no odd sizes.
    """
    width, height = size
    ratio = video.width * video.aspect / video.height
    return (
        height or max(2 * round(width / ratio / 2), 2),
        width or max(2 * round(height * ratio / 2), 2),
    )


def _options(options: ResultOptions) -> EncodingOptions:
    return {"quality": options.quality, "depth": options.depth, "lossless": options.lossless}


def upscale_video(
    upscaler: Upscaler, opened: VideoJob, options: ResultOptions, report: Report
) -> None:
    """Upscales a video. Errors are reported to `report`."""
    from esrgan_jax.video.writer import write_video

    source, target = opened.job
    video, size = opened.video, (opened.height, opened.width)
    deep = (options.depth or video.look.bits) > 8
    dtype = np.dtype(np.uint16 if deep else np.uint8)

    def upscale(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        images = (
            Strips(
                *frame.shape,
                dtype=video.dtype,
                rows=iter([frame]),
                result_dtype=dtype,
                result_size=size,
            )
            for frame in frames
        )
        for strips in upscaler.stream(prefetched(images, ahead=4), progress=report.advance):
            yield np.concatenate(list(strips.rows))

    def resumed(frames: int) -> None:
        report.note(source, f"continues after {frames} of its {video.frames} frames")
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
            software=make_record(upscaler.name, source, options.settings),
            resumed=resumed,
        ):
            report.note(source, note)
    except (InputError, RunError) as error:
        report.failed(source, error)
    else:
        report.done(source, target, size)
