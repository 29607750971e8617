"""Progress of long work: a bar on a terminal, one line a minute where there is none."""

import sys
import time
from collections import deque
from typing import Self

from tqdm import tqdm

LINE_SECONDS = 60.0
RECENT = 5  # minutes that the rate is of: compiling and pauses are soon forgotten
MEASURE_FORMAT = (
    "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} {unit} "
    "[{elapsed}<{remaining}, {rate_fmt}{postfix}]"
)


class Progress:
    """Counts `total` pieces of work, with the recent rate and the time left, on stderr.

    Args:
        total: Pieces of work in all.
        unit: What one piece is called ("step", "picture"), or a unit of measure ("MP").
        label: What is being done, in front of every line.
        initial: Pieces done by an earlier run; they do not count towards the rate.
    """

    def __init__(self, total: float, unit: str, label: str, initial: int = 0):
        self.total, self.unit, self.label = total, unit, label
        self.units = f"{unit}s" if unit.islower() else unit
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
                bar_format=None if unit.islower() else MEASURE_FORMAT,
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
        self.note = note or self.note
        self.total = max(self.total, self.count)  # what was estimated may have been too little
        if time.monotonic() - self.marks[-1][0] >= LINE_SECONDS:
            self.marks.append((time.monotonic(), self.count))
        if self.bar is not None:
            self.bar.total = self.total
            self.bar.set_postfix_str(self.note, refresh=False)
            self.bar.update(pieces)
        elif time.monotonic() - self.last_line >= LINE_SECONDS:
            self._line()

    def lap(self) -> float:
        """Pieces a second since the last call, or since the start."""
        pieces, seconds = self.count - self.lap_count, time.monotonic() - self.last_lap
        self.lap_count, self.last_lap = self.count, time.monotonic()
        return pieces / max(seconds, 1e-9)

    @staticmethod
    def write(line: str) -> None:
        """Prints a line without tearing the bar."""
        tqdm.write(line, file=sys.stderr)

    def _line(self) -> None:
        self.last_line = time.monotonic()
        seconds = (self.total - self.count) / self.rate if self.rate else 0
        left = f", {tqdm.format_interval(seconds)} left" if seconds else ""
        note = f", {self.note}" if self.note else ""
        self.write(
            f"{self.label}: {_number(self.count)}/{_number(self.total)} {self.units}, "
            f"{self.rate:.2f} {self.units}/s{left}{note}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()
        else:
            self._line()


def _number(count: float) -> str:
    return f"{count:.1f}" if isinstance(count, float) else str(count)
