"""Reports progress, notes and failures: a progress bar, lines of JSON, or failures only."""

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Self, TextIO

from esrgan_jax.batch.jobs import STREAM
from esrgan_jax.errors import InputError
from esrgan_jax.progress import Progress

MODES = ("bar", "json", "quiet")
PIXEL_UNITS = ((10**9, "GP"), (10**6, "MP"), (10**3, "kP"), (1, "P"))
JSON_SECONDS = 1.0  # between progress events


class Report:
    """Counts pixels and images, and prints events. It may be used by several threads.

    Args:
        mode: "bar" (a line per minute without a terminal), "json" (a line of JSON per event:
            progress, note, done, failed, skipped, finished) or "quiet" (failures only).
        images: Number of images and videos to upscale.
        out: Where lines of JSON are printed.
        noun: What to call them on the bar.

    Attributes:
        failures: (name, reason) of each failed image.
        refused: Number of failures that are errors of the input.
    """

    def __init__(self, mode: str, images: int, out: TextIO, noun: str = "image"):
        self.mode, self.images, self.out, self.noun = mode, images, out, noun
        self.total = self.pixels = self.shown = 0  # pixels of the results
        self.done_count = self.skipped_count = 0
        self.failures: list[tuple[str, str]] = []
        self.refused = 0
        self.lock = threading.RLock()
        self.start = self.last = time.monotonic()
        self.bar: Progress | None = None

    def begin(self, pixels: int) -> None:
        """Starts the work, on results with this number of pixels."""
        self.total = pixels
        self.start = self.last = time.monotonic()
        if self.mode == "bar" and pixels:
            size, unit = next(pair for pair in PIXEL_UNITS if pixels >= pair[0] / 10)
            self.bar = Progress(pixels, unit, "upscaling", size=size)

    def done_before(self, pixels: int) -> None:
        """Subtracts pixels that an earlier run has finished."""
        with self.lock:
            self.total -= pixels
            if self.bar:
                self.bar.total -= pixels

    def advance(self, pixels: int) -> None:
        """Counts computed pixels of the results."""
        with self.lock:
            self.pixels += pixels
            self.total = max(self.total, self.pixels)  # the estimate may be too low
            ended = self.done_count + len(self.failures) >= self.images
            if ended and not self.failures:  # or too high
                self.total = self.pixels
            # Computed pixels are not written yet.
            done = self.pixels if ended else min(self.pixels, self.total - 1)
            more, self.shown = max(done - self.shown, 0), max(done, self.shown)
            if self.bar:
                self.bar.total = self.total
                self.bar.update(more, note=f"{self.done_count}/{self.images} {self.noun}s")
            late = time.monotonic() - self.last >= JSON_SECONDS
            if self.mode == "json" and (late or (ended and self.pixels)):
                self._progress()

    def _progress(self) -> None:
        self.last = time.monotonic()
        rate = self.shown / max(self.last - self.start, 1e-9)
        self._event(
            "progress",
            megapixels=self.shown / 1e6,
            total_megapixels=self.total / 1e6,
            megapixels_per_s=round(rate / 1e6, 4),
            seconds_left=round((self.total - self.shown) / rate, 1) if rate else None,
            images=self.done_count,
            total_images=self.images,
        )

    def note(self, source: Path, text: str) -> None:
        """Prints a note on an image."""
        self._print("note", f"{source}: {text}", source=str(source), note=text)

    def skipped(self, source: Path, target: Path) -> None:
        """Counts an image that an earlier run has finished."""
        self.skipped_count += 1
        if self.mode == "json":
            self._event("skipped", source=str(source), target=str(target))

    def done(self, source: Path, target: Path, size: tuple[int, int]) -> None:
        """Counts a written image; size is (height, width)."""
        with self.lock:
            self.done_count += 1
            self.advance(0)
            if self.mode == "json":
                paths = {"source": str(source), "target": str(target)}
                self._event("done", **paths, height=size[0], width=size[1])

    def failed(self, source: Path, error: BaseException | str) -> None:
        """Counts and prints a failure. The other images are still upscaled."""
        name = "standard input" if source == STREAM else str(source)
        reason = str(error).removeprefix(f"{name}: ")
        with self.lock:
            self.failures.append((name, reason))
            self.refused += isinstance(error, InputError)
            self._print("failed", f"not done: {name}: {reason}", source=str(source), reason=reason)

    def _print(self, event: str, line: str, **fields: object) -> None:
        with self.lock:
            if self.mode == "json":
                self._event(event, **fields)
            elif self.mode == "bar" or event == "failed":
                Progress.write(line)

    def _event(self, event: str, **fields: object) -> None:
        with self.lock:
            print(json.dumps({"event": event, **fields}), file=self.out, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar:
            self.bar.__exit__(*exception)
        if self.mode == "json":
            with contextlib.suppress(BrokenPipeError):  # why the run ends
                self._event(
                    "finished",
                    done=self.done_count,
                    failed=len(self.failures),
                    skipped=self.skipped_count,
                    seconds=round(time.monotonic() - self.start, 2),
                )
