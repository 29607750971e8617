"""Films through an upscaler, frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.films.film import Film, open_film
from esrgan_jax.films.target import check_target
from esrgan_jax.upscaler import Upscaler
from esrgan_jax.upscaling.jobs import Job, Wishes
from esrgan_jax.upscaling.made_by import record
from esrgan_jax.upscaling.report import Report
from esrgan_jax.upscaling.strips import Strips, prefetched


@dataclass(frozen=True)
class FilmJob:
    """A film whose result can be written.

    Attributes:
        film: With the aspect of the result's pixels.
        height, width: Of the result.
        notes: For the user.
    """

    job: Job
    film: Film
    height: int
    width: int
    notes: list[str]


def open_job(job: Job, upscaler: Upscaler, wishes: Wishes) -> FilmJob:
    """Reads a film, and finds what its result will be.

    Raises:
        InputError: It cannot be read, or not be written so.
    """
    source, target = job
    opened = open_film(source)
    height, width = wishes.result_size(opened.height, opened.width, upscaler)
    if wishes.size:
        (height, width), opened = _shown(opened, wishes.size), replace(opened, aspect=Fraction(1))
    notes = check_target(opened, target, height=height, width=width, **_options(wishes))
    return FilmJob(job, opened, height, width, notes)


def _shown(film: Film, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of square pixels; a side of 0 follows from how the film is shown.

    That side is even: encoders have no odd sizes in the kind of colours that all players play.
    """
    width, height = size
    shown = film.width * film.aspect / film.height
    return (
        height or max(2 * round(width / shown / 2), 2),
        width or max(2 * round(height * shown / 2), 2),
    )


def _options(wishes: Wishes) -> dict[str, Any]:
    return {"quality": wishes.quality, "depth": wishes.depth, "lossless": wishes.lossless}


def upscale_film(upscaler: Upscaler, opened: FilmJob, wishes: Wishes, report: Report) -> None:
    """Upscales a film; if it cannot be done, that is reported."""
    from esrgan_jax.films.writer import write_film

    source, target = opened.job
    film, size = opened.film, (opened.height, opened.width)
    deep = (wishes.depth or film.look.bits) > 8
    dtype = np.dtype(np.uint16 if deep else np.uint8)

    def upscale(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        given = (
            Strips(
                *frame.shape,
                dtype=film.dtype,
                rows=iter([frame]),
                result_dtype=dtype,
                result_size=size,
            )
            for frame in frames
        )
        for strips in upscaler.stream(prefetched(given, ahead=4), progress=report.advance):
            yield np.concatenate(list(strips.rows))

    def begun(frames: int) -> None:
        report.note(source, f"goes on after {frames} of its {film.frames} frames")
        report.done_before(frames * size[0] * size[1])

    for note in opened.notes:
        report.note(source, note)
    try:
        for note in write_film(
            film,
            target,
            upscale,
            height=size[0],
            width=size[1],
            **_options(wishes),
            software=record(upscaler.name, source, wishes.settings),
            begun=begun,
        ):
            report.note(source, note)
    except (InputError, RunError) as error:
        report.failed(source, error)
    else:
        report.done(source, target, size)
