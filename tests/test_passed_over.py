"""Tests of the note on files of a folder that are not upscaled."""

from pathlib import Path

import pytest
from PIL import Image

from esrgan_jax.batch.passed_over import passed_over
from esrgan_jax.upscale import main


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (["a.png", "b.txt", "c.json", ".hidden.mp4", ".trash/a.nef"], None),
        (
            ["IMG_1.HEIC", "IMG_1.MOV", "IMG_2.JPG", "IMG_2.MOV"],
            "2 videos of Live Photos are passed over",
        ),
        (["IMG_1.HEIC", "IMG_2.MOV"], "1 video is passed over; name videos to upscale them"),
        (
            ["a/a.jpg", "a/a.NEF", "b/b.mp4", "b/c.mkv", "c.psd", "d.jxl", "e.svg"],
            "3 files of other formats, 1 raw file and 2 videos are passed over; "
            "name videos to upscale them",
        ),
        (["a.png", "large/a.mp4"], None),
    ],
)
def test_the_note_counts_files_by_kind(tmp_path, names, note):
    touch(tmp_path, *names)
    assert passed_over(tmp_path, tmp_path / "large") == note


def test_the_command_prints_the_note(tmp_path, capsys):
    photos = tmp_path / "photos"
    touch(photos, "a.mov", "b.nef")
    Image.new("RGB", (8, 8)).save(photos / "a.png")
    main([str(photos), f"--output={tmp_path / 'large'}", "--progress=json"])
    note = "1 raw file and 1 video of a Live Photo are passed over"
    assert f'"note": "{note}"' in capsys.readouterr().out
    assert (tmp_path / "large" / "a.png").is_file()
