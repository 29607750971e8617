"""Tests of the upscaling report: a bar on a terminal, lines, JSON, or failures only."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from esrgan_jax import progress
from esrgan_jax.batch import report as upscale_report
from esrgan_jax.batch.report import Report

A, B, OUT = Path("a.png"), Path("b.png"), Path("out/a.png")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    def write(self, _):
        raise BrokenPipeError


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (progress, upscale_report):
        monkeypatch.setattr(module, "time", clock)
    return clock


def work(report, clock):
    """Reports an upscaled image of 3 megapixels, a failed one of 1 and a skipped one."""
    with report:
        report.skipped(Path("there.png"), Path("out/there.png"))
        report.begin(4_000_000)
        report.note(A, "of 2 images the first is taken")
        for _ in range(3):
            clock.now += 40
            report.advance(1_000_000)
        report.done(A, OUT, (1000, 3000))
        report.failed(B, ValueError(f"{B}: it is damaged"))


def test_json_events(clock):
    out = io.StringIO()
    work(Report("json", 2, out), clock)
    first = {"total_megapixels": 4.0, "megapixels_per_s": 0.025, "total_images": 2}
    left = {1: 120.0, 2: 80.0, 3: 40.0}
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"event": "skipped", "source": "there.png", "target": "out/there.png"},
        {"event": "note", "source": "a.png", "note": "of 2 images the first is taken"},
        *(
            {"event": "progress", **first, "megapixels": float(n), "images": 0}
            | {"seconds_left": left[n]}
            for n in (1, 2, 3)
        ),
        {"event": "done", "source": "a.png", "target": "out/a.png", "height": 1000, "width": 3000},
        {"event": "failed", "source": "b.png", "reason": "it is damaged"},
        {"event": "finished", "done": 1, "failed": 1, "skipped": 1, "seconds": 120.0},
    ]


def test_lines_without_a_terminal(clock, capsys):
    work(Report("bar", 2, sys.stdout), clock)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "a.png: of 2 images the first is taken",
        "upscaling: 2.00/4.00 MP, 0.03 MP/s, 01:20 left, 0/2 images",
        "not done: b.png: it is damaged",
        "upscaling: 3.00/4.00 MP, 0.03 MP/s, 00:40 left, 1/2 images",
    ]


def test_quiet_prints_failures_only(clock, capsys):
    work(Report("quiet", 2, sys.stdout), clock)
    assert tuple(capsys.readouterr()) == ("", "not done: b.png: it is damaged\n")


def test_control_characters_in_names_are_escaped(clock, capsys):
    with Report("bar", 1, sys.stdout) as report:
        report.note(Path("a\x1b[31m.png"), "a note")
        report.failed(Path("b\n.png"), ValueError("it is \x07damaged"))
    err = capsys.readouterr().err
    assert err == "a\\x1b[31m.png: a note\nnot done: b\\n.png: it is \\x07damaged\n"


def test_a_bar_is_shown_on_a_terminal(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    work(Report("bar", 2, sys.stdout), clock)
    shown = terminal.getvalue().replace("\r", "\n")
    assert "\nnot done: b.png: it is damaged\n" in shown
    last = shown.strip().splitlines()[-1]
    assert "upscaling:  75%" in last
    assert "3.00/4.00 MP" in last
    assert "1/2 images" in last


@pytest.mark.parametrize("terminal", [False, True])
def test_the_total_grows_if_there_are_more_pixels_than_estimated(clock, monkeypatch, terminal):
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    with Report("bar", 1, sys.stdout) as report:
        report.begin(1_000_000)
        clock.now += 10
        report.advance(9_000_000)
        report.done(A, OUT, (3000, 3000))
    last = stderr.getvalue().replace("\r", "\n").strip().splitlines()[-1]
    assert "9.00/9.00 MP" in last
    assert "-" not in last


def shown(terminal):
    """Returns (percent, count, total, unit) of each state of the bar."""
    found = re.findall(r"(\d+)%\|.*?\| ([\d.]+)/([\d.]+) (\w+) \[", terminal.getvalue())
    return [(int(percent), float(n), float(total), unit) for percent, n, total, unit in found]


@pytest.mark.parametrize(
    ("pixels", "total", "unit"),
    [
        (256, 0.26, "kP"),
        (65_536, 65.54, "kP"),
        (262_144, 0.26, "MP"),
        (2_457_600, 2.46, "MP"),
        (1_004_999, 1.0, "MP"),
        (153_600_000_000, 153.6, "GP"),
    ],
)
def test_100_percent_is_shown_only_after_the_file_is_written(
    clock, monkeypatch, pixels, total, unit
):
    """Pixels are computed in 100 steps; the image is written afterwards."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress.tqdm, "monitor_interval", 0)
    report = Report("bar", 1, sys.stdout)
    with report:
        report.begin(pixels)
        assert report.bar is not None
        report.bar.bar.mininterval = 0
        done = 0
        for index in range(1, 101):
            clock.now += 1
            report.advance(index * pixels // 100 - done)
            done = index * pixels // 100
        working = shown(terminal)
        report.done(A, OUT, (1, 1))
    assert len({n for _, n, _, _ in working}) > 25
    assert working == sorted(working)
    assert all(percent < 100 and n < total for percent, n, _, _ in working)
    assert shown(terminal)[-1] == (100, total, total, unit)


def test_json_progress_ends_at_the_total(clock):
    """The total is corrected if the estimate was too high."""
    out = io.StringIO()
    with Report("json", 1, out) as report:
        report.begin(1000)
        for _ in range(9):
            clock.now += 1
            report.advance(100)
        report.done(A, OUT, (30, 30))
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    megapixels = [e["megapixels"] for e in events if e["event"] == "progress"]
    assert megapixels == [*(n * 100 / 1e6 for n in range(1, 10)), 0.0009]
    totals = [e["total_megapixels"] for e in events if e["event"] == "progress"]
    assert totals == [0.001] * 9 + [0.0009]


@pytest.mark.parametrize("mode", ["bar", "quiet"])
def test_no_work_prints_nothing(mode, capsys):
    with Report(mode, 0, sys.stdout) as report:
        report.begin(0)
    assert tuple(capsys.readouterr()) == ("", "")


def test_no_time_left_is_given_before_the_first_pixel(clock):
    out = io.StringIO()
    with Report("json", 1, out) as report:
        report.begin(1)
        clock.now += 5
        report.advance(0)
    assert json.loads(out.getvalue().splitlines()[0])["seconds_left"] is None


def test_failures_of_standard_input_are_named(capsys):
    report = Report("bar", 1, sys.stdout)
    report.failed(Path("-"), ValueError("standard input: cannot be read"))
    assert capsys.readouterr().err == "not done: standard input: cannot be read\n"
    assert report.failures == [("standard input", "cannot be read")]


def test_json_to_a_closed_pipe_raises_broken_pipe():
    with pytest.raises(BrokenPipeError), Report("json", 1, Closed()) as report:
        report.note(A, "a note")
