"""Stops a run on a signal without losing a step."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Self

from esrgan_jax.errors import RunError, signal_code

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNAL_GRACE = 5.0  # seconds in which further signals count as the same request
_requeue = False  # whether SIGTERM ends the process with TRY_AGAIN, see `end_at_once`


class RunStopped(RunError):
    """The run was stopped by `signal`; everything is saved, and the same command continues it."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class StopRequest:
    """While active, SIGTERM and SIGINT (Ctrl-C) set `signal` instead of ending the process.

    A thread prints at once what will happen, because Python's own handlers run only after C++ code,
    such as a compilation, has returned. Signals within SIGNAL_GRACE seconds after the first have no
    effect. Later ones end the process with the code of `signal_code`, and the steps since the last
    checkpoint are computed again.

    Attributes:
        signal: The first signal, or None.
        when: When the run will stop, for the message.

    Args:
        end: Ends the process with an exit code.
    """

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        self.signal: int | None = None
        self.when = "stopping"
        self._end = end
        self._interrupts = False
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def interrupting(self, doing: str) -> Generator[None]:
        """Lets a signal interrupt the block by RunStopped, while there is nothing to save yet.

        Args:
            doing: "while …", for the message.
        """
        self.when, self._interrupts = "stopping", True
        try:
            yield
        except KeyboardInterrupt:  # code that reads files does not catch it
            if self.signal is None:
                raise
        finally:
            self._interrupts = False
        self.check(doing)

    def check(self, doing: str) -> None:
        """Raises RunStopped if a signal was received; only before the first step."""
        if self.signal is not None:
            raise RunStopped(
                f"stopped {doing}; there was nothing to save yet, and the same command starts or "
                "continues the run",
                self.signal,
            )

    def after(self, step: int) -> bool:
        """Returns whether the run stops after a step; the same in all processes.

        Call it after the start of every step, when the one before is complete.
        """
        from esrgan_jax import distributed  # lazily: it imports JAX, and `main` imports this module

        if distributed.place()[1] == 1:
            return self.signal is not None
        # A process that was signalled names step s + 2 after it has started s, and before s + 1.
        # Another one asks for step s + 2 when its step s + 1 is complete, which needs all processes
        # and so comes after the naming: it knows the step in time, wherever it was.
        if self.signal is not None:
            distributed.put_once("stop/after", f"{step + 2} {self.signal}")
        named = distributed.read("stop").get("after")
        if named is None:
            return False
        last, number = map(int, named.split())
        if step >= last:
            self.signal = self.signal or number
        return step >= last

    def anywhere(self) -> bool:
        """Returns whether any process was signalled; all must ask."""
        from esrgan_jax import distributed

        signals = [number for number in distributed.gather(self.signal) if number]
        self.signal = self.signal or next(iter(signals), None)
        return self.signal is not None

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
                _say(f"{name}: {self.when}; once more after {SIGNAL_GRACE:g} s ends at once")
            elif now - first < SIGNAL_GRACE:
                _say(f"{name}: stopping already, please wait")
            else:
                _say(f"{name}: ended; what was done since the last checkpoint is done again")
                self._end(signal_code(number, _requeue))

    def __enter__(self) -> Self:
        # Python allows signal handlers only in the main thread.
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


def end_at_once(requeue: bool = False) -> None:
    """Makes signals end the process with a message and the code of `signal_code`.

    The code is also that of the second signal to a `StopRequest`.
    """
    global _requeue
    _requeue = requeue

    def end(number: int, _: object) -> None:
        _say(f"{signal.Signals(number).name}: stopped")
        os._exit(signal_code(number, requeue))

    for number in SIGNALS:
        signal.signal(number, end)


def ignore_from_now_on() -> None:
    """Ignores further signals: everything is saved and the process is about to end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _say(line: str) -> None:
    print(f"\n{line}", file=sys.stderr, flush=True)
