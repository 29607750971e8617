"""Signals: the first asks, the second ends, and what was there before comes back."""

import signal

import pytest

from esrgan_jax.errors import RunError
from esrgan_jax.stopping import Stopped, StopRequest

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@SIGNALS
def test_the_first_signal_asks(number, capsys):
    with StopRequest() as request:
        assert request.signal is None
        signal.raise_signal(number)
        assert request.signal == number
    assert capsys.readouterr().err == (
        f"\n{number.name}: saving after this step; once more to stop at once\n"
    )


@SIGNALS
def test_the_second_signal_ends(number, capsys):
    with StopRequest() as request:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert request.signal == signal.SIGTERM


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


def test_a_stopped_run_is_a_failed_one_that_says_by_what():
    stopped = Stopped("stopped after step 7", signal.SIGTERM)
    assert isinstance(stopped, RunError)
    assert (str(stopped), stopped.signal) == ("stopped after step 7", 15)
