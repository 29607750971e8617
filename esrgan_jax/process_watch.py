"""Ends all processes of a run when one of them ends early or is lost, each with a sentence.

A step waits for all processes, so without this the others would wait for ever.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from typing import NoReturn

import jax

from esrgan_jax import distributed
from esrgan_jax.errors import InputError, RunError, is_of_signal, printable

BEAT = 2.0  # seconds between two looks at the other processes
LOST = 20  # looks without a sign of life after which a process is lost
GRACE = 10.0  # seconds in which the others read why the run ends, before the coordinator goes
AGAIN = "the same command continues from the last checkpoint"


class ProcessWatch:
    """A thread that tells the other processes that this one lives, and looks whether they do.

    Start one in each process, after `distributed.join`. The coordinator's own heartbeats, which
    take longer, would abort the process with a stack trace.
    """

    def __init__(self) -> None:
        self._index, self._count = distributed.place()
        self._leaving, self._stops = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, before Python ends: inside the coordinator's client it would abort."""
        self._stops.set()
        self._thread.join()

    def leave(self, error: BaseException, code: int = 1) -> NoReturn:
        """Ends this process, and with it all others, for an error that only it may know of.

        Args:
            error: Printed; of unknown kinds with a traceback.
            code: The exit code; an InputError has 2.
        """
        if _by_another(error):
            seconds = BEAT * (LOST + 5)
            reason = str(error).partition("\n")[0]
            line = f"{reason}: waiting {seconds:.0f} s to see whether another process is lost"
            print(printable(line), file=sys.stderr, flush=True)
            time.sleep(seconds)  # the thread ends the process when it knows which one
        self._leaving.acquire()
        code = 2 if isinstance(error, InputError) else code
        known = isinstance(error, (InputError, RunError))
        text = str(error) if known else f"{type(error).__name__}: {error}".partition("\n")[0]
        self._tell(self._index, code, text)
        if self._index and (is_of_signal(code) or self._same_in_first(text)):
            self._end(code)  # process 0 prints it
        if not known:
            traceback.print_exception(error)
        where = f"process {self._index}: " if self._index else ""
        self._end(code, text if is_of_signal(code) else f"error: {where}{text}")

    def _look(self) -> None:
        signs, looks = dict[int, str](), dict[int, int]()
        beat = 0
        while not self._stops.wait(BEAT):
            beat += 1
            try:
                distributed.put(f"alive/{self._index}", str(beat))
                alive, failed = distributed.read("alive"), distributed.read("failed")
            except Exception:  # the coordinator is busy, or gone; then JAX ends this process
                continue
            for other in set(range(self._count)) - {self._index}:
                sign = alive.get(str(other), "")
                looks[other] = looks.get(other, 0) + 1 if signs.get(other) == sign else 0
                signs[other] = sign
                if looks[other] >= LOST and not failed:
                    seconds = BEAT * LOST
                    text = f"has not been heard of for {seconds:.0f} s, so the run ends; {AGAIN}"
                    self._tell(other, 1, text)
                    failed = distributed.read("failed")
            for other, told in failed.items():
                if self._leaving.acquire(blocking=False):
                    code, text = json.loads(told)
                    if is_of_signal(code):
                        self._end(code, "" if self._index else text)
                    self._end(code, f"error: process {other}: {text}")

    def _tell(self, index: int, code: int, text: str) -> None:
        with contextlib.suppress(Exception):  # the coordinator is gone
            distributed.put_once(f"failed/{index}", json.dumps([code, text]))

    def _same_in_first(self, text: str) -> bool:
        """Returns whether process 0 ends for the same reason, and so prints it."""
        end = time.monotonic() + 2 * BEAT
        with contextlib.suppress(Exception):  # the coordinator is gone
            while time.monotonic() < end:
                if told := distributed.read("failed").get("0"):
                    return json.loads(told)[1] == text
                time.sleep(0.1)
        return False

    def _end(self, code: int, line: str = "") -> NoReturn:
        if line:
            print(printable(line), file=sys.stderr)
        end = time.monotonic() + GRACE
        with contextlib.suppress(Exception):  # the coordinator is gone
            distributed.put_once(f"left/{self._index}", "")
            # The others lose their coordinator with process 0, and would be aborted.
            while self._index == 0 and time.monotonic() < end:
                if len(distributed.read("left")) == self._count:
                    break
                time.sleep(0.1)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _by_another(error: BaseException | None) -> bool:
    """Returns whether an error may come from the loss of another process."""
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
