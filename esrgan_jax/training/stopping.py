"""Stops a run on a signal without losing a step."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Self

from esrgan_jax.errors import RunError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
GRACE = 5.0  # seconds in which further signals are taken for the same wish


class Stopped(RunError):
    """The run was asked to stop by `signal`; all is saved, the same command goes on from there."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class StopRequest:
    """While active, SIGTERM and SIGINT (Ctrl-C) set `signal` instead of ending the process.

    What comes of it is said at once, by a thread, since Python's own handlers wait for what runs
    in C++, such as a compilation. Signals that follow within GRACE seconds change nothing, later
    ones end the process, with exit code 128 + number: what was done since the last checkpoint is
    done again.

    Attributes:
        signal: The first signal, or None.
        when: For the message: what is waited for before the run stops.

    Args:
        end: Ends the process with an exit code.
    """

    def __init__(self, end: Callable[[int], Any] = os._exit) -> None:
        self.signal: int | None = None
        self.when = "stopping"
        self._end = end
        self._interrupts = False
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def interrupting(self, doing: str) -> Generator[None]:
        """Within it a signal raises Stopped, since there is nothing to save yet.

        Args:
            doing: "while …", for the message.
        """
        self.when, self._interrupts = "stopping", True
        try:
            yield
        except KeyboardInterrupt:  # as nothing that reads files takes for an error of its own
            if self.signal is None:
                raise
        finally:
            self._interrupts = False
        self.check(doing)

    def check(self, doing: str) -> None:
        """Raises Stopped if a signal came; before the first step of this start."""
        if self.signal is not None:
            raise Stopped(
                f"stopped {doing}; nothing was done that has to be saved, and the same command "
                "starts again",
                self.signal,
            )

    def _handle(self, number: int, _: object) -> None:
        first, self.signal = self.signal is None, self.signal or number
        if first and self._interrupts:
            raise KeyboardInterrupt

    def _watch(self, wakes: int) -> None:
        first = None
        while received := os.read(wakes, 1):
            number, now = received[0], time.monotonic()
            if number not in SIGNALS:
                continue
            name = signal.Signals(number).name
            if first is None:
                first = now
                _say(f"{name}: {self.when}; once more after {GRACE:g} s ends at once")
            elif now - first < GRACE:
                _say(f"{name}: stopping already, please wait")
            else:
                _say(f"{name}: ended; what was done since the last checkpoint is done again")
                self._end(128 + number)

    def __enter__(self) -> Self:
        # Elsewhere than in the main thread nobody can ask for signals.
        if threading.current_thread() is threading.main_thread():
            wakes, self._wake = os.pipe()
            os.set_blocking(self._wake, False)
            self._wakeup = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
            self._wakes = wakes
            self._watcher = threading.Thread(target=self._watch, args=(wakes,), daemon=True)
            self._watcher.start()
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._wake)
        self._watcher.join()
        os.close(self._wakes)


def end_at_once() -> None:
    """From now on signals end the process with a word and the exit code 128 + number."""

    def end(number: int, _: object) -> None:
        _say(f"{signal.Signals(number).name}: stopped")
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, end)


def ignore_from_now_on() -> None:
    """Ignores further signals: everything is saved and the process is about to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _say(line: str) -> None:
    print(f"\n{line}", file=sys.stderr, flush=True)
