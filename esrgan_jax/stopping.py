"""Stopping a run by a signal without losing a step."""

import signal
import sys
from typing import Self

from esrgan_jax.errors import RunError


class Stopped(RunError):
    """The run was asked to stop by `signal`; all is saved, the same command goes on from there."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class StopRequest:
    """While active, SIGTERM and SIGINT (Ctrl-C) set `signal` instead of ending the process.

    The second signal ends it at once, and what was done since the last checkpoint is done again.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def _handle(self, number: int, _: object) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        name = signal.Signals(number).name
        print(f"\n{name}: saving after this step; once more to stop at once", file=sys.stderr)

    def __enter__(self) -> Self:
        numbers = (signal.SIGTERM, signal.SIGINT)
        self.before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
