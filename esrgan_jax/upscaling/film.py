"""Films through an upscaler, frame by frame."""

from collections.abc import Iterator

import numpy as np

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.films import film
from esrgan_jax.upscaler import Upscaler
from esrgan_jax.upscaling.jobs import Job, Wishes
from esrgan_jax.upscaling.made_by import record
from esrgan_jax.upscaling.report import Report
from esrgan_jax.upscaling.strips import Strips, prefetched


def open_film(
    job: Job, upscaler: Upscaler, wishes: Wishes
) -> tuple[film.Film, tuple[int, int], list[str]]:
    """A film whose result can be written, the result's (height, width), and notes for the user.

    Raises:
        InputError: It cannot be read, or not be written so.
    """
    source, target = job
    opened = film.open_film(source)
    height, width = wishes.result_size(opened.height, opened.width, upscaler)
    notes = film.check_target(opened, target, height=height, width=width, quality=wishes.quality)
    return opened, (height, width), notes


def upscale_film(upscaler: Upscaler, job: Job, wishes: Wishes, report: Report) -> None:
    """Upscales a film; if it cannot be done, that is reported."""
    source, target = job
    try:
        opened, (height, width), notes = open_film(job, upscaler, wishes)
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
        for note in film.write_film(
            opened,
            target,
            upscale,
            height=height,
            width=width,
            quality=wishes.quality,
            software=record(upscaler.name, source, wishes.settings),
        ):
            report.note(source, note)
    except (InputError, RunError) as error:
        report.failed(source, error)
    else:
        report.done(source, target, (height, width))
