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
RECENT = 5  # minutes that the rate is of: compiling and pauses are soon forgotten
BAR = "{{desc}}: {percent:3}%|{{bar}}| {count} [{{elapsed}}<{{remaining}}, {{rate_fmt}}{{postfix}}]"


class Progress:
    """Counts `total` pieces of work, with the recent rate and the time left, on stderr.

    Args:
        total: Pieces of work in all.
        unit: What one piece is called ("step", "image"), or with `size` a unit of measure ("MP").
        label: What is being done, in front of every line.
        initial: Pieces done by an earlier run; they do not count towards the rate.
        size: Pieces that one of the unit of measure has.
    """

    def __init__(
        self, total: float, unit: str, label: str, initial: int = 0, size: int | None = None
    ):
        self.total, self.unit, self.label, self.size = total, unit, label, size
        self.units = f"{unit}s" if size is None else unit
        self.count: float = initial
        self.last_line = self.last_lap = time.monotonic()
        self.lap_count = initial
        # When, and how much was done, once a minute.
        self.marks: deque[tuple[float, float]] = deque([(self.last_lap, initial)], RECENT)
        self.note = ""
        on_terminal = sys.stderr.isatty()
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
        """Pieces a second in the last minutes."""
        seconds, count = self.marks[0]
        return (self.count - count) / max(time.monotonic() - seconds, 1e-9)

    def update(self, pieces: float = 1, note: str = "") -> None:
        """Counts finished pieces; `note` stands behind the count until the next one."""
        self.count += pieces
        self.note = printable(note) or self.note
        self.total = max(self.total, self.count)  # what was estimated may have been too little
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
        """Says while the block runs that nothing is counted, why, and for how many seconds.

        Args:
            what: What is done meanwhile: "compiling".
        """
        began, done, before = time.monotonic(), threading.Event(), self.note

        def tell() -> None:
            while not done.wait(1.0):
                self.update(0, note=f"{what}, {time.monotonic() - began:.0f} s")

        if self.bar is None:
            self.write(f"{self.label}: {what}")
        teller = threading.Thread(target=tell, daemon=True)
        teller.start()
        try:
            yield
        finally:
            done.set()
            teller.join()
            self.note = before

    def lap(self) -> float:
        """Pieces a second since the last call, or since the start."""
        pieces, seconds = self.count - self.lap_count, time.monotonic() - self.last_lap
        self.lap_count, self.last_lap = self.count, time.monotonic()
        return pieces / max(seconds, 1e-9)

    @staticmethod
    def write(line: str) -> None:
        """Prints a line without tearing the bar."""
        tqdm.write(printable(line), file=sys.stderr)

    def _counted(self) -> str:
        """Such as "3/10" or "0.04/0.26"; all of them is shown only where all are done."""
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
