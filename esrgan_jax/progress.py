"""Progress of long work: a bar on a terminal, otherwise one line a minute."""

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self

from tqdm import tqdm

from esrgan_jax.errors import printable

LINE_SECONDS = 60.0
RECENT = 5  # minutes that the rate covers: compiling and pauses are soon forgotten
BAR = "{{desc}}: {percent:3}%|{{bar}}| {count} [{{elapsed}}<{{remaining}}, {{rate_fmt}}{{postfix}}]"


class Progress:
    """Counts `total` pieces of work, with the recent rate and the time left, on stderr.

    Args:
        total: Pieces of work in all.
        unit: The name of one piece ("step", "image"), or with `size` a unit of measure ("MP").
        label: What is being done; every line starts with it.
        initial: Pieces done by an earlier run; they do not count towards the rate.
        size: Pieces in one unit of measure.
        shown: False for processes that leave the showing to another one.
    """

    def __init__(
        self,
        total: float,
        unit: str,
        label: str,
        initial: int = 0,
        size: int | None = None,
        shown: bool = True,
    ):
        self.shown = shown
        self.total, self.unit, self.label, self.size = total, unit, label, size
        self.units = f"{unit}s" if size is None else unit
        self.count: float = initial
        self.last_line = self.last_lap = time.monotonic()
        self.lap_count = initial
        # (time, count), once a minute.
        self.marks: deque[tuple[float, float]] = deque([(self.last_lap, initial)], RECENT)
        self.note = ""
        on_terminal = shown and sys.stderr.isatty()
        self.bar = (
            tqdm(
                total=total,
                unit=unit,
                desc=label,
                initial=initial,
                dynamic_ncols=True,
                unit_scale=1 / size if size else False,
                miniters=0,  # pieces may be of very different lengths
                bar_format=self._format(),
            )
            if on_terminal
            else None
        )

    @property
    def rate(self) -> float:
        """Pieces per second in the last minutes."""
        seconds, count = self.marks[0]
        return (self.count - count) / max(time.monotonic() - seconds, 1e-9)

    def update(self, pieces: float = 1, note: str = "") -> None:
        """Counts finished pieces; `note` is shown after the count until the next note."""
        self.count += pieces
        self.note = printable(note) or self.note
        self.total = max(self.total, self.count)  # the estimate may have been too low
        if time.monotonic() - self.marks[-1][0] >= LINE_SECONDS:
            self.marks.append((time.monotonic(), self.count))
        if self.bar is not None:
            self.bar.total, self.bar.bar_format = self.total, self._format()
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(pieces)
        elif time.monotonic() - self.last_line >= LINE_SECONDS:
            self._line()

    @contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Shows why nothing is counted while the block runs, and for how many seconds.

        Without a terminal, a line is printed at the start, every minute, and at the end.

        Args:
            what: What is done meanwhile: "compiling".
        """
        began, done, before = time.monotonic(), threading.Event(), self.note

        def show() -> None:
            while not done.wait(1.0):
                self.update(0, note=f"{what}, {time.monotonic() - began:.0f} s")

        lines = self.shown and self.bar is None
        if lines:
            self.write(f"{self.label}: {what}")
        shower = threading.Thread(target=show, daemon=True)
        shower.start()
        try:
            yield
            if lines:
                self.write(f"{self.label}: {what} took {time.monotonic() - began:.0f} s")
        finally:
            done.set()
            shower.join()
            self.note = before

    def lap(self) -> float:
        """Returns pieces per second since the last call, or since the start."""
        pieces, seconds = self.count - self.lap_count, time.monotonic() - self.last_lap
        self.lap_count, self.last_lap = self.count, time.monotonic()
        return pieces / max(seconds, 1e-9)

    @staticmethod
    def write(line: str) -> None:
        """Prints a line above the bar."""
        tqdm.write(printable(line), file=sys.stderr)

    def _counted(self) -> str:
        """Returns "3/10" or "0.04/0.26"; rounding never shows unfinished work as finished."""
        if self.size is None:
            return f"{self.count}/{self.total}"
        total = round(100 * self.total / self.size)
        done = min(math.floor(100 * self.count / self.size), max(total - 1, 0))
        done = total if self.count >= self.total else done
        return f"{done / 100:.2f}/{total / 100:.2f}"

    def _format(self) -> str:
        percent = math.floor(100 * self.count / self.total) if self.total else 100
        unit = f" {self.unit}" if self.size else ""
        return BAR.format(percent=percent, count=self._counted() + unit)

    def _line(self) -> None:
        self.last_line = time.monotonic()
        if not self.shown:
            return
        seconds = (self.total - self.count) / self.rate if self.rate else 0
        left = f", {tqdm.format_interval(seconds)} left" if seconds else ""
        note = f", {self.note}" if self.note else ""
        rate = self.rate / (self.size or 1)
        counted = f"{self._counted()} {self.units}"
        self.write(f"{self.label}: {counted}, {rate:.2f} {self.units}/s{left}{note}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()
        else:
            self._line()
