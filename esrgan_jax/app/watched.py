"""An upscaler that reports its progress and can be stopped."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.batch.report import Report
from esrgan_jax.upscaling.strips import Strips
from esrgan_jax.upscaling.upscaler import Upscaler


class Stopped(Exception):
    """The user does not want the result any more."""


class Watched(Upscaler):
    """An `Upscaler` that shows each finished strip to `seen`, where there is one."""

    seen: Callable[[Strips, np.ndarray], None] | None = None

    def stream(
        self, images: Iterable[Strips], *, progress: Callable[[int], None] | None = None
    ) -> Iterator[Strips]:
        for strips in super().stream(images, progress=progress):
            yield replace(strips, rows=self._shown(strips))

    def _shown(self, strips: Strips) -> Iterator[np.ndarray]:
        for rows in strips.rows:
            if self.seen is not None:
                self.seen(strips, rows)
            yield rows


class Watch(Report):
    """What `upscale_files` tells of one image.

    Args:
        told: Called with the pixels of the result that are done, and that there are.
        stop: Once set, the work ends with `Stopped`.
    """

    def __init__(self, told: Callable[[int, int], None], stop: threading.Event):
        super().__init__("quiet", 1, io.StringIO())
        self.told, self.stop = told, stop
        self.notes: list[str] = []
        self.problem: BaseException | str | None = None

    def begin(self, pixels: int) -> None:
        super().begin(pixels)
        self.advance(0)

    def advance(self, pixels: int, *more: Any) -> None:
        if self.stop.is_set():
            raise Stopped
        super().advance(pixels, *more)
        self.told(min(self.pixels, self.total), self.total)

    def note(self, source: Path, text: str) -> None:
        self.notes.append(text)

    def failed(self, source: Path, error: BaseException | str) -> None:
        self.problem = error
