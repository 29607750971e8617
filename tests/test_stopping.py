"""Tests of stopping by signals: the first asks for a stop, a later one ends the process."""

import contextlib
import ctypes
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
def test_the_first_signal_asks_for_a_stop_and_immediate_ones_are_ignored(number, capsys):
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


@pytest.mark.parametrize("requeue", [False, True])
@SIGNALS
def test_a_later_signal_ends_the_process_with_its_code(number, requeue, capsys, monkeypatch):
    monkeypatch.setattr(stopping, "SIGNAL_GRACE", 0.0)
    monkeypatch.setattr(stopping, "_requeue", False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signal, "signal", lambda *args: None)
        stopping.end_at_once(requeue)
    codes = []
    with StopRequest(end=codes.append) as request:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(number)
        assert request.signal == signal.SIGTERM
    assert codes == [75 if requeue and number == signal.SIGTERM else 128 + number]
    assert f"{number.name}: ended; what was done since the last checkpoint is done again" in (
        capsys.readouterr().err
    )


def test_a_signal_is_acknowledged_while_the_main_thread_is_busy(monkeypatch):
    """Python's own handlers wait until a call in C returns, such as a compilation."""
    stderr, seen = io.StringIO(), []
    monkeypatch.setattr(sys, "stderr", stderr)
    line = "\nSIGTERM: stopping after the compilation; once more after 5 s ends at once\n"
    ends, end = os.pipe()
    busy, interval = threading.Event(), sys.getswitchinterval()

    def ask():
        busy.wait()
        signal.raise_signal(signal.SIGTERM)  # to this thread, so it does not interrupt the call
        asked = time.monotonic()
        while stderr.getvalue() != line and time.monotonic() - asked < 60:
            time.sleep(0.01)
        seen.append((stderr.getvalue(), request.signal))
        os.write(end, b"0")

    with StopRequest() as request:
        request.when = "stopping after the compilation"
        asking = threading.Thread(target=ask)
        asking.start()
        read, buffer = ctypes.CDLL(None).read, ctypes.create_string_buffer(1)
        sys.setswitchinterval(60)  # so that `ask` goes on when this thread is in the call
        busy.set()
        read(ends, buffer, 1)  # returns after os.write
        sys.setswitchinterval(interval)
        asking.join()
        assert request.signal == signal.SIGTERM
    assert seen == [(line, None)]
    os.close(ends)
    os.close(end)


@SIGNALS
def test_a_signal_interrupts_if_there_is_nothing_to_save(number):
    def read():
        with contextlib.suppress(Exception):  # as code that reads files converts exceptions
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
def test_the_previous_handlers_are_restored(number):
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
def test_signals_are_ignored_after_the_last_save(number):
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    try:
        stopping.ignore_from_now_on()
        signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_run_stopped_is_a_run_error_with_its_signal():
    stopped = RunStopped("stopped after step 7", signal.SIGTERM)
    assert isinstance(stopped, RunError)
    assert (str(stopped), stopped.signal) == ("stopped after step 7", 15)
