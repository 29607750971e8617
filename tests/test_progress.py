"""Tests of progress lines, with a simulated clock, and of the bar on a terminal."""

import contextlib
import io
import sys
import time

import pytest

from esrgan_jax import progress
from esrgan_jax.progress import Progress


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def until(happened):
    """Waits for another thread; the machine may be busy."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def work(clock, seconds, bar, pieces=1, **arguments):
    clock.now += seconds
    bar.update(pieces, **arguments)


def test_one_line_is_printed_a_minute_and_one_at_the_end(clock, capsys):
    with Progress(100, "step", "psnr") as bar:
        for _ in range(100):
            work(clock, 2, bar)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "psnr: 30/100 steps, 0.50 steps/s, 02:20 left",
        "psnr: 60/100 steps, 0.50 steps/s, 01:20 left",
        "psnr: 90/100 steps, 0.50 steps/s, 00:20 left",
        "psnr: 100/100 steps, 0.50 steps/s",
    ]


def test_slow_work_prints_a_line_for_each_piece(clock, capsys):
    with Progress(2, "image", "upscaling") as bar:
        work(clock, 90, bar)
        work(clock, 59, bar)
    assert capsys.readouterr().err.splitlines() == [
        "upscaling: 1/2 images, 0.01 images/s, 01:30 left",
        "upscaling: 2/2 images, 0.01 images/s",
    ]


def test_pieces_of_an_earlier_run_do_not_count_in_the_rate(clock, capsys):
    with Progress(1000, "step", "gan", initial=700) as bar:
        work(clock, 100, bar, pieces=100)
        assert bar.rate == 1
    assert capsys.readouterr().err.splitlines() == [
        "gan: 800/1000 steps, 1.00 steps/s, 03:20 left",
        "gan: 800/1000 steps, 1.00 steps/s, 03:20 left",
    ]


def test_the_rate_forgets_a_slow_start_and_a_pause(clock, capsys):
    bar = Progress(10_000, "step", "psnr")
    for seconds in (300, 3600):
        work(clock, seconds, bar)
        for _ in range(600):
            work(clock, 1, bar)
        assert bar.rate == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("psnr: 1202/10000 steps, 1.00 steps")


def test_a_note_is_shown_until_the_next_one(clock, capsys):
    bar = Progress(9, "step", "psnr")
    work(clock, 60, bar, note="l_g 0.1")
    work(clock, 60, bar)
    work(clock, 60, bar, note="l_g 0.2")
    notes = [line.split("left, ")[1] for line in capsys.readouterr().err.splitlines()]
    assert notes == ["l_g 0.1", "l_g 0.1", "l_g 0.2"]


def test_no_finished_pieces_are_shown_with_a_rate_of_zero(clock, capsys):
    with Progress(3, "step", "psnr", initial=1):
        pass
    assert capsys.readouterr().err == "psnr: 1/3 steps, 0.00 steps/s\n"


def test_interrupted_work_ends_with_a_line(clock, capsys):
    with contextlib.suppress(RuntimeError), Progress(4, "step", "psnr") as bar:
        work(clock, 1, bar)
        raise RuntimeError
    assert capsys.readouterr().err == "psnr: 1/4 steps, 1.00 steps/s, 00:03 left\n"


def test_all_output_goes_to_standard_error(clock, capsys):
    with Progress(1, "step", "psnr") as bar:
        bar.write("a line")
        bar.update()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("a line\npsnr: 1/1 steps, ")


def test_a_bar_is_shown_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(4, "step", "psnr", initial=1) as bar:
        bar.update(2, note="l_g 0.1")
        bar.write("saved step 3")
        bar.update(1)
    shown = terminal.getvalue()
    assert "psnr:  25%" in shown
    assert "1/4 [" in shown
    last = shown.split("\r")[-1]
    assert "psnr: 100%" in last
    assert "4/4 [" in last
    assert "l_g 0.1" in last
    assert "\nsaved step 3\n" in shown.replace("\r", "\n")
    assert "psnr: 4/4 steps" not in shown  # lines are only printed without a terminal


def test_waiting_is_shown_with_seconds(clock, capsys):
    with Progress(3, "step", "psnr") as bar:
        with bar.waiting("compiling"):
            clock.now += 62
            until(lambda: bar.last_line == clock.now)
        bar.update(note="loss 0.1")
    assert capsys.readouterr().err.splitlines() == [
        "psnr: compiling",
        "psnr: 0/3 steps, 0.00 steps/s, compiling, 62 s",
        "psnr: compiling took 62 s",
        "psnr: 1/3 steps, 0.02 steps/s, 02:04 left, loss 0.1",
    ]


def test_waiting_is_shown_with_seconds_in_the_bar(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(3, "step", "psnr") as bar, bar.waiting("compiling"):
        clock.now += 5
        until(lambda: "compiling, 5 s" in terminal.getvalue())
