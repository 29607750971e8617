"""Tests of problems of a video that are found before upscaling or during it."""

import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

from esrgan_jax.errors import InputError  # noqa: E402
from esrgan_jax.video.target import check_video_target  # noqa: E402
from esrgan_jax.video.video_file import open_video  # noqa: E402
from esrgan_jax.video.writer import write_video  # noqa: E402
from tests.videos import HEIGHT, SAME_SIZE, WIDTH, images, make, times_of, upscaled  # noqa: E402

TICK = Fraction(1, 90000)


def changing(tmp_path, first, second):
    """Writes a broadcast that changes after ten frames, at one second."""
    data = b""
    for number, options in enumerate((first, second)):
        times = [4000 + 1000 * number + 100 * i for i in range(10)]
        options = {"frames": list(images(10)), "times": times, "time_base": TICK, **options}
        data += make(tmp_path / "part.ts", **options).read_bytes()
    (tmp_path / "part.ts").unlink()
    (tmp_path / "a.ts").write_bytes(data)
    return tmp_path / "a.ts"


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"frames": list(images(10, 24, 48))}, "its size changes from 32×24 to 48×24 at 0:00:0"),
        ({"aspect": Fraction(4, 3)}, "its sample aspect changes from 1 to 4/3 at 0:00:0"),
        ({"options": {"x264-params": "tff=1"}}, r"from 0:00:01\S* on it is interlaced"),
        ({"tags": {"colorspace": 9, "color_primaries": 9, "color_trc": 16}}, "transfer changes"),
    ],
)
def test_changes_in_the_middle_are_refused_before_upscaling(tmp_path, second, message):
    source = changing(tmp_path, {}, second)
    with pytest.raises(InputError, match=message) as caught:
        open_video(source)
    assert "cannot be upscaled as a video" in str(caught.value)


def test_the_matrix_and_range_may_change(tmp_path):
    """Each frame is converted with its own matrix and range."""
    second = {"tags": {"color_range": 2, "colorspace": 1}}
    source = changing(tmp_path, {"tags": {"color_range": 1, "colorspace": 1}}, second)
    assert open_video(source).frames == 20


def test_a_change_that_the_scan_misses_is_resized_with_a_note(tmp_path, monkeypatch):
    source = changing(tmp_path, {}, {"frames": list(images(10, 24, 48))})
    monkeypatch.setattr("esrgan_jax.video.scan.MOST_KEY_FRAMES", 0.1)  # one is scanned
    video, frames_read = open_video(source), []

    def keep(frames):
        for frame in frames:
            frames_read.append(frame)
            yield frame

    notes = write_video(video, tmp_path / "b.mp4", keep, **SAME_SIZE)
    assert len(notes) == 1
    assert re.match(r"10 frames of another size, the first at \S+, resized to", notes[0])
    assert [frame.shape for frame in frames_read] == [(HEIGHT, WIDTH, 3)] * 20
    error = np.abs(frames_read[15].astype(int) - list(images(6))[5])
    assert error.mean() < 8
    assert len(times_of(tmp_path / "b.mp4")) == 20


@pytest.mark.parametrize(
    ("name", "suffix", "dropped"),
    [
        ("SPHERICAL", ".mp4", True),
        ("STEREO3D", ".mp4", False),
        ("STEREO3D", ".webm", True),
        ("A53_CC", ".mkv", False),
        ("A53_CC", ".webm", True),
        ("ICC_PROFILE", ".mkv", True),
    ],
)
def test_side_data_is_kept_or_noted(tmp_path, name, suffix, dropped):
    video = replace(open_video(make(tmp_path / "a.mp4")), side_data=frozenset({name}))
    notes = check_video_target(video, tmp_path / f"b{suffix}", **SAME_SIZE)
    assert [note.endswith("is dropped") for note in notes] == [True] * dropped


def test_frames_without_times_get_times_from_the_frame_rate(tmp_path):
    source = make(tmp_path / "a.h264", times=[40 * i for i in range(12)])
    assert open_video(source).frames == 12
    times = times_of(upscaled(source, tmp_path / "b.mp4"))
    assert [round(25 * (time - times[0])) for time in times] == list(range(12))
