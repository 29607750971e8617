"""The output of the upscale command: a progress bar, lines of JSON, or nothing."""

import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any, Self, TextIO

from esrgan_jax.batch.jobs import STREAM
from esrgan_jax.errors import InputError
from esrgan_jax.progress import Progress

MODES = ("bar", "json", "quiet")
PIXEL_UNITS = ((10**9, "GP"), (10**6, "MP"), (10**3, "kP"), (1, "P"))
JSON_SECONDS = 1.0  # between lines of progress


class Report:
    """Counts pixels and images; may be used from several threads.

    Args:
        mode: "bar" (a line a minute where there is no terminal), "json" (a line of JSON for each
            event: progress, note, done, failed, skipped, finished) or "quiet" (failures alone).
        images: How many there are to do.
        out: Where lines of JSON go.
    """

    def __init__(self, mode: str, images: int, out: TextIO):
        self.mode, self.images, self.out = mode, images, out
        self.total = self.pixels = self.shown = 0  # of results, in pixels
        self.done_count = self.skipped_count = 0
        self.failures: list[tuple[str, str]] = []  # what it was, and why
        self.refused = 0  # failures that are the input's fault
        self.lock = threading.RLock()
        self.start = self.last = time.monotonic()
        self.bar: Progress | None = None

    def begin(self, pixels: int) -> None:
        """Work begins, on results of so many pixels."""
        self.total = pixels
        self.start = self.last = time.monotonic()
        if self.mode == "bar" and pixels:
            size, unit = next(pair for pair in PIXEL_UNITS if pixels >= pair[0] / 10)
            self.bar = Progress(pixels, unit, "upscaling", size=size)

    def done_before(self, pixels: int) -> None:
        """So many pixels are there from an earlier run: what is left counts."""
        with self.lock:
            self.total -= pixels
            if self.bar:
                self.bar.total -= pixels

    def advance(self, pixels: int) -> None:
        """So many pixels more of the results are computed."""
        with self.lock:
            self.pixels += pixels
            self.total = max(self.total, self.pixels)  # what was estimated may have been too little
            ended = self.done_count + len(self.failures) >= self.images
            if ended and not self.failures:  # or too much
                self.total = self.pixels
            # What is computed is not written yet.
            done = self.pixels if ended else min(self.pixels, self.total - 1)
            more, self.shown = max(done - self.shown, 0), max(done, self.shown)
            if self.bar:
                self.bar.total = self.total
                self.bar.update(more, note=f"{self.done_count}/{self.images} images")
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
        """Something that the user should know of an image."""
        self._say("note", f"{source}: {text}", source=str(source), note=text)

    def skipped(self, source: Path, target: Path) -> None:
        """An image was done before."""
        self.skipped_count += 1
        if self.mode == "json":
            self._event("skipped", source=str(source), target=str(target))

    def done(self, source: Path, target: Path, size: tuple[int, int]) -> None:
        """An image is written, of (height, width) pixels."""
        with self.lock:
            self.done_count += 1
            self.advance(0)
            if self.mode == "json":
                named = {"source": str(source), "target": str(target)}
                self._event("done", **named, height=size[0], width=size[1])

    def failed(self, source: Path, error: BaseException | str) -> None:
        """An image could not be done; the others go on."""
        name = "standard input" if source == STREAM else str(source)
        reason = str(error).removeprefix(f"{name}: ")
        with self.lock:
            self.failures.append((name, reason))
            self.refused += isinstance(error, InputError)
            self._say("failed", f"not done: {name}: {reason}", source=str(source), reason=reason)

    def _say(self, event: str, line: str, **fields: Any) -> None:
        with self.lock:
            if self.mode == "json":
                self._event(event, **fields)
            elif self.mode == "bar" or event == "failed":
                Progress.write(line)

    def _event(self, event: str, **fields: Any) -> None:
        with self.lock:
            print(json.dumps({"event": event, **fields}), file=self.out, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar:
            self.bar.__exit__(*exception)
        if self.mode == "json":
            with contextlib.suppress(BrokenPipeError):  # which is why it ends
                self._event(
                    "finished",
                    done=self.done_count,
                    failed=len(self.failures),
                    skipped=self.skipped_count,
                    seconds=round(time.monotonic() - self.start, 2),
                )
