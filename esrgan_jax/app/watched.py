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


class StoppedByUser(Exception):
    """The user stopped the work."""


class Watched(Upscaler):
    """An `Upscaler` that calls `seen`, if set, with each finished strip."""

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


class PageReport(Report):
    """Collects what `upscale_files` reports on one image.

    Args:
        progress: Called with (finished, total) pixels of the result.
        stop: Once set, the work ends with `StoppedByUser`.
    """

    def __init__(self, progress: Callable[[int, int], None], stop: threading.Event):
        super().__init__("quiet", 1, io.StringIO())
        self.progress, self.stop = progress, stop
        self.notes: list[str] = []
        self.problem: BaseException | str | None = None

    def begin(self, pixels: int) -> None:
        super().begin(pixels)
        self.advance(0)

    def advance(self, pixels: int, *more: Any) -> None:
        if self.stop.is_set():
            raise StoppedByUser
        super().advance(pixels, *more)
        self.progress(min(self.pixels, self.total), self.total)

    def note(self, source: Path, text: str) -> None:
        self.notes.append(text)

    def failed(self, source: Path, error: BaseException | str) -> None:
        self.problem = error
