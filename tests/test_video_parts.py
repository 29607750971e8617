"""Tests of stopping and resuming the upscaling of videos."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from esrgan_jax.errors import InputError, RunError  # noqa: E402
from esrgan_jax.video import parts, writer  # noqa: E402
from esrgan_jax.video.parts import parts_folder  # noqa: E402
from esrgan_jax.video.video_file import open_video  # noqa: E402
from esrgan_jax.video.writer import write_video  # noqa: E402
from tests.videos import UNSTEADY, doubled, make, packets, times_of  # noqa: E402

TIMES = [40 * i for i in range(23)]


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr(parts, "FRAMES", 5)


def write(source, target, upscale=doubled, **options):
    """Writes a video; returns the calls of `resumed` and the notes."""
    video, resumed = open_video(source), []
    size = {"height": 2 * video.height, "width": 2 * video.width}
    notes = write_video(video, target, upscale, resumed=resumed.append, **size, **options)
    assert not parts_folder(target).exists()
    return resumed, notes


def stopping(after, failure=KeyboardInterrupt):
    """Returns an upscaler that raises after `after` frames; its `taken` counts upscaled frames."""

    def upscale(frames):
        for i, frame in enumerate(doubled(frames)):
            if i == after:
                raise failure
            upscale.taken += 1
            yield frame

    upscale.taken = 0
    return upscale


def decoded(path):
    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


@pytest.mark.parametrize("times", [TIMES, [*UNSTEADY, 1300, 1301, 1302, 9000]])
@pytest.mark.parametrize(
    ("name", "lossless"), [("b.mp4", False), ("b.mkv", True), ("b.webm", False)]
)
def test_a_resumed_video_equals_an_uninterrupted_one(tmp_path, name, lossless, times):
    """Packets, decoded frames and times are all equal."""
    source = make(tmp_path / "a.mkv", times=times, sound="libopus")
    options = {"software": "s", "lossless": lossless}
    whole, target = tmp_path / f"whole{name}", tmp_path / name
    assert write(source, whole, **options) == ([], [])
    for after in (7, 4, 8):
        upscale = stopping(after)
        with pytest.raises(KeyboardInterrupt):
            write(source, target, upscale, **options)
        assert upscale.taken == after
        assert os.listdir(tmp_path).count(target.name) == 0
    rest = stopping(None)
    assert write(source, target, rest, **options) == ([10], [])
    assert rest.taken == len(times) - 10
    assert packets(target, "video") == packets(whole, "video")
    assert packets(target, "audio") == packets(whole, "audio")
    for a, b in zip(decoded(target), decoded(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert times_of(target) == times_of(source)
    assert sorted(os.listdir(tmp_path)) == sorted([source.name, target.name, whole.name])


def test_slow_frames_are_stored_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "SLOW", -1.0)
    source = make(tmp_path / "a.mp4", times=TIMES)
    whole, target = tmp_path / "whole.mp4", tmp_path / "b.mp4"
    write(source, whole, software="s")
    for after, done in ((8, 8), (1, 9)):
        with pytest.raises(KeyboardInterrupt):
            write(source, target, stopping(after), software="s")
        kept = sorted(path.name for path in parts_folder(target).glob("*.npy"))
        assert kept == [f"{i:09}.npy" for i in range(5, done)]
    rest = stopping(None)
    assert write(source, target, rest, software="s")[0] == [9]
    assert rest.taken == len(TIMES) - 9
    assert times_of(target) == times_of(whole)


def test_stopping_while_parts_are_joined_loses_no_frames(tmp_path, monkeypatch):
    source, target = make(tmp_path / "a.mp4", times=TIMES), tmp_path / "b.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(writer, "join", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(source, target, software="s")
    rest = stopping(None)
    assert write(source, target, rest, software="s")[0] == [len(TIMES)]
    assert rest.taken == 0
    assert times_of(target) == times_of(source)


@pytest.mark.parametrize("other", ["software", "quality", "size", "source", "format"])
def test_parts_made_with_other_settings_are_not_used(tmp_path, other):
    source, target = make(tmp_path / "a.mp4", times=TIMES), tmp_path / "b.mkv"
    with pytest.raises(KeyboardInterrupt):
        write(source, target, stopping(12))
    options = {}
    if other == "software":
        options["software"] = "another network"
    if other == "quality":
        options["quality"] = 30
    if other == "source":
        make(source, times=[t + 1 for t in TIMES])
    if other == "format":
        parts_folder(target).joinpath("made_by.txt").write_bytes(b"of an older version\xff")
    rest, video = stopping(None), open_video(source)
    if other == "size":
        size = {"height": video.height, "width": video.width}
        resumed = []
        write_video(video, target, lambda frames: frames, resumed=resumed.append, **size)
        assert resumed == []
        return
    assert write(source, target, rest, **options)[0] == []
    assert rest.taken == len(TIMES)


@pytest.mark.parametrize("cut", [1, 60])
def test_an_incomplete_segment_is_encoded_again(tmp_path, cut):
    source, target = make(tmp_path / "a.mp4", times=TIMES), tmp_path / "b.mp4"
    with pytest.raises(KeyboardInterrupt):
        write(source, target, stopping(17), software="s")
    path = parts_folder(target) / "000000005.5.packets"
    path.write_bytes(path.read_bytes()[:-cut])
    rest = stopping(None)
    assert write(source, target, rest, software="s")[0] == [5]
    assert rest.taken == len(TIMES) - 5
    assert times_of(target) == times_of(source)


def test_a_full_disk_is_reported_and_finished_parts_are_kept(tmp_path, monkeypatch):
    source, target = make(tmp_path / "a.mp4", times=TIMES), tmp_path / "b.mp4"

    def full(descriptor):
        full.calls += 1
        if full.calls == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full.calls = 0
    with monkeypatch.context() as patch:
        patch.setattr(parts.os, "fsync", full)
        with pytest.raises(RunError, match=r"b\.mp4: could not be written: no space left .* kept"):
            write(source, target, software="s")
    assert [p.name for p in sorted(parts_folder(target).iterdir())] == [
        "000000000.5.packets",
        "000000005.5.packets",
        "made_by.txt",
    ]
    rest = stopping(None)
    assert write(source, target, rest, software="s")[0] == [10]
    assert rest.taken == len(TIMES) - 10


def test_a_long_name_gets_a_shorter_folder(tmp_path):
    source, target = make(tmp_path / "a.mp4", times=TIMES), tmp_path / f"{'ü' * 120}.mp4"
    assert len(os.fsencode(parts_folder(target).name)) < 255
    with pytest.raises(KeyboardInterrupt):
        write(source, target, stopping(12), software="s")
    assert parts_folder(target).is_dir()
    shutil.rmtree(parts_folder(target))


def test_a_second_process_keeps_the_parts_of_the_first(tmp_path):
    """It is refused, also with --overwrite, and resumes after the first was killed."""
    source, target = make(tmp_path / "a.mp4", times=TIMES), tmp_path / "b.mp4"
    script = f"""
import os, signal
from esrgan_jax.video import parts
from tests.test_video_parts import stopping, write
from pathlib import Path
class Kill(BaseException):
    def __init__(self):
        print("half", flush=True)
        signal.pause()
parts.FRAMES = 5
write(Path({str(source)!r}), Path({str(target)!r}), stopping(12, Kill), software="s")
"""
    command, root = [sys.executable, "-c", script], Path(__file__).parents[1]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "half\n"
        done = sorted(path.name for path in parts_folder(target).iterdir())
        assert done[:3] == [".lock", "000000000.5.packets", "000000005.5.packets"]
        message = rf"b\.mp4: another process is writing it \(process {first.pid} on "
        for options in ({"software": "s"}, {"software": "another"}):
            with pytest.raises(InputError, match=message):
                write(source, target, **options)
            parts.remove_parts(target)  # what --overwrite does
            assert sorted(path.name for path in parts_folder(target).iterdir()) == done
    finally:
        first.kill()
        first.wait()
    assert write(source, target, software="s")[0] == [10]
    assert times_of(target) == times_of(source)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4"]


def test_other_files_in_the_folder_are_kept(tmp_path):
    source, target = make(tmp_path / "a.mp4", times=TIMES), tmp_path / "b.mp4"
    parts_folder(target).mkdir()
    (parts_folder(target) / "letter.txt").write_text("mine")
    video = open_video(source)
    write_video(video, target, doubled, height=2 * video.height, width=2 * video.width)
    assert [path.name for path in parts_folder(target).iterdir()] == ["letter.txt"]
