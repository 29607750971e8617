"""Signals: the first asks, what follows at once is the same wish, a later one ends."""

import contextlib
import hashlib
import io
import os
import signal
import sys
import threading
import time

import pytest

from esrgan_jax.errors import RunError
from esrgan_jax.training import stopping
from esrgan_jax.training.stopping import RunStopped, StopRequest

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@SIGNALS
def test_the_first_signal_asks_and_those_at_once_are_the_same_wish(number, capsys):
    with StopRequest(end=lambda code: pytest.fail("ended")) as request:
        assert request.signal is None
        request.when = "stopping after this image"
        signal.raise_signal(number)
        assert request.signal == number
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert request.signal == number
    assert capsys.readouterr().err == (
        f"\n{number.name}: stopping after this image; once more after 5 s ends at once\n"
        "\nSIGINT: stopping already, please wait\n\nSIGTERM: stopping already, please wait\n"
    )


@SIGNALS
def test_a_later_signal_ends_with_its_number(number, capsys, monkeypatch):
    monkeypatch.setattr(stopping, "SIGNAL_GRACE", 0.0)
    codes = []
    with StopRequest(end=codes.append) as request:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(number)
        assert request.signal == signal.SIGTERM
    assert codes == [128 + number]
    assert f"{number.name}: ended; what was done since the last checkpoint is done again" in (
        capsys.readouterr().err
    )


def test_it_is_said_at_once_while_the_main_thread_is_busy(monkeypatch):
    """Python's own handlers wait for what runs in C, such as a compilation."""
    said, seen = io.StringIO(), []
    monkeypatch.setattr(sys, "stderr", said)

    def ask():
        os.kill(os.getpid(), signal.SIGTERM)
        asked = time.monotonic()
        while not said.getvalue() and time.monotonic() - asked < 2:  # on a machine that is busy
            time.sleep(0.05)
        seen.append((said.getvalue(), request.signal))

    with StopRequest() as request:
        request.when = "stopping after the compilation"
        timer = threading.Timer(0.1, ask)
        timer.start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 9_000_000)  # seconds in one call
        timer.join()
        assert request.signal == signal.SIGTERM
    line = "\nSIGTERM: stopping after the compilation; once more after 5 s ends at once\n"
    assert seen == [(line, None)]


@SIGNALS
def test_before_anything_is_to_be_saved_a_signal_interrupts(number):
    def read():
        with contextlib.suppress(Exception):  # as what reads files makes others of them
            signal.raise_signal(number)
        pytest.fail("swallowed")

    with StopRequest() as request:
        with (
            pytest.raises(RunStopped, match="while reading; there was nothing to save") as stopped,
            request.interrupting("while reading"),
        ):
            read()
        assert stopped.value.signal == number
        with pytest.raises(RunStopped, match="before the first step"):
            request.check("before the first step")


@SIGNALS
def test_the_handlers_before_come_back(number):
    seen = []
    before = signal.signal(number, lambda *arguments: seen.append(arguments[0]))
    try:
        with pytest.raises(ZeroDivisionError), StopRequest():
            raise ZeroDivisionError
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert seen == [number]
    assert signal.set_wakeup_fd(-1) == -1


@SIGNALS
def test_when_all_is_saved_signals_change_nothing(number):
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    try:
        stopping.ignore_from_now_on()
        signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_stopped_run_is_a_failed_one_that_says_by_what():
    stopped = RunStopped("stopped after step 7", signal.SIGTERM)
    assert isinstance(stopped, RunError)
    assert (str(stopped), stopped.signal) == ("stopped after step 7", 15)
