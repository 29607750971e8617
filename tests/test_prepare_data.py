"""Tests of prepare_data: sub-images, its report, and refused input and output."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.data import builder
from esrgan_jax.data.builder import write_sub_images
from esrgan_jax.data.sources import ArrayRecordSource
from esrgan_jax.errors import InputError, RunError

TOOL = Path(__file__).parents[1] / "tools" / "prepare_data.py"


def prepare(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, TOOL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=TOOL.parents[1])


@pytest.fixture
def folder(tmp_path, rng):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, size in {"a": (64, 96), "b": (48, 48), "c": (47, 90)}.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


def test_images_are_cut_and_counted_and_bad_files_reported(tmp_path, folder):
    (folder / "broken").mkdir()
    whole = (folder / "a.png").read_bytes()
    (folder / "broken" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "broken" / "junk.jpg").write_bytes(b"junk")
    other = tmp_path / "more"
    other.mkdir()
    Image.open(folder / "b.png").save(other / "b.png")
    rule = ("--size=48", "--step=24", "--leftover=8")
    done = prepare("--input", folder, f"--input={other}", f"--output={tmp_path}/out", *rule)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "broken/half.png: cannot be read as an image" in done.stderr
    assert "broken/junk.jpg: cannot be read as an image" in done.stderr
    assert "c.png: 90x47 pixels, smaller than 48" in done.stderr
    table = [line.split() for line in done.stdout.splitlines()]
    assert [str(folder), "5", "7", "1", "2"] in table
    assert [str(other), "1", "1", "0", "0"] in table
    assert ["total", "6", "8", "1", "2"] in table
    assert f"--config.data.train={tmp_path}/out" in done.stdout

    source = ArrayRecordSource(tmp_path / "out")
    image = np.asarray(Image.open(folder / "a.png"))
    places = [(top, left) for top in (0, 16) for left in (0, 24, 48)]
    expected = [image[top : top + 48, left : left + 48] for top, left in places]
    last = np.asarray(Image.open(folder / "b.png"))
    for index, window in enumerate([*expected, last, last]):
        np.testing.assert_array_equal(source[index]["hr"], window)
    assert len(source) == 8
    assert sorted(os.listdir(tmp_path)) == ["more", "out", "photos"]


def test_nothing_is_written_if_no_image_can_be_read(tmp_path, folder):
    whole = (folder / "a.png").read_bytes()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(whole[: len(whole) // 2])
    done = prepare("--input", tmp_path / "bad", f"--output={tmp_path}/out", "--size=48")
    assert done.returncode == 2
    assert "out was not made: no image could be read" in done.stderr
    assert "train on this folder" not in done.stdout
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_refused(tmp_path, folder):
    (tmp_path / "out").mkdir()
    done = prepare("--input", folder, "--output", tmp_path / "out", "--size=48")
    assert done.returncode == 2
    assert "out: exists already; remove it or give another --output" in done.stderr
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size=480"], "no image contains a window of 480 pixels; use a smaller --size"),
        (["--size=0"], "error: --size: must be 1 or more"),
        (["--leftover=-1"], "error: --leftover: must be 0 or more"),
        (["--step=x"], "error: --step: must be a whole number"),
        (["--input=nowhere"], "nowhere: no such folder"),
    ],
)
def test_unusable_arguments_exit_with_code_2(tmp_path, folder, arguments, message):
    done = prepare("--input", folder, "--output", tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["photos"]


def test_a_failed_run_leaves_no_output(tmp_path):
    def shard():
        yield "first", np.zeros((8, 8, 3), np.uint8)
        raise OSError("No space left on device")

    with pytest.raises(RunError, match="could not be written: no space left on the disk"):
        write_sub_images(tmp_path / "out", [shard])
    assert os.listdir(tmp_path) == []


def test_an_output_that_another_run_writes_is_refused(tmp_path):
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(InputError, match=r"out\.partial: another run writes it"):
        write_sub_images(tmp_path / "out", [])
    assert os.listdir(tmp_path) == ["out.partial"]


def test_the_folder_of_a_run_that_started_at_the_same_moment_is_kept(tmp_path, monkeypatch):
    def created_by_another_run(folder):
        partial = folder.with_name("out.partial")
        partial.mkdir()
        (partial / "work").touch()
        return partial

    monkeypatch.setattr(builder, "partial_folder", created_by_another_run)
    with pytest.raises(InputError, match=r"out\.partial: another run writes it"):
        write_sub_images(tmp_path / "out", [])
    assert (tmp_path / "out.partial" / "work").exists()


@pytest.mark.parametrize("output", [".", "..", "/"])
def test_an_output_without_a_name_is_refused(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"exists already|has no name"):
        builder.partial_folder(Path(output))


def test_an_output_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"out\.partial: could not be written"):
        write_sub_images(tmp_path / "file" / "out", [])
