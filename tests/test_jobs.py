"""The output file of each input, and inputs and outputs that are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esrgan_jax import files
from esrgan_jax.batch.jobs import STREAM, ResultOptions, noun, plan
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import write_image

NOISE = (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", ".cache/a.png", "video.mp4")


@pytest.fixture
def photos(tmp_path):
    """Returns a folder with two images, one in a subfolder, and other files."""
    folder = tmp_path / "photos"
    for name in ("a.png", "sub/Ünï köde.v2.png"):
        write_image(folder / name, np.zeros((4, 4, 3), np.uint8))
    (folder / ".cache").mkdir()
    for name in (*NOISE, "notes.txt"):
        (folder / name).write_text("no image")
    return folder


def names(jobs, output) -> list[str]:
    return [str(target.relative_to(output)) for _, target in jobs]


def test_folders_keep_their_structure(photos, tmp_path):
    output = tmp_path / "out"
    assert plan([photos], output) == [
        (photos / "a.png", output / "a.png"),
        (photos / "sub/Ünï köde.v2.png", output / "sub/Ünï köde.v2.png"),
    ]
    files = [photos / "sub/Ünï köde.v2.png", photos / "a.png"]
    assert names(plan(files, output), output) == ["Ünï köde.v2.png", "a.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/**/*.png", ["a.png", "sub/Ünï köde.v2.png"]),
        ("*/*.png", ["photos/a.png"]),
        ("photos/sub/*", ["Ünï köde.v2.png"]),
        ("photos/*", ["a.png", "video.mp4"]),
        ("**/Ü*.png", ["photos/sub/Ünï köde.v2.png"]),
    ],
)
def test_patterns_keep_subfolders_below_their_fixed_part(
    photos, tmp_path, monkeypatch, pattern, expected
):
    monkeypatch.chdir(tmp_path)
    for output in (Path("out"), tmp_path / "out"):
        assert names(plan([Path(pattern)], output), output) == expected
    assert names(plan([tmp_path / pattern], Path("out")), "out") == expected


def test_an_existing_file_name_is_not_taken_as_a_pattern(tmp_path):
    for name in ("b[1].png", "-c d.png", "x?.png"):
        write_image(tmp_path / name, np.zeros((1, 1, 3), np.uint8))
        job = (tmp_path / name, tmp_path / "out" / name)
        assert plan([tmp_path / name], tmp_path / "out") == [job]
    with pytest.raises(InputError, match="no image matches"):
        plan([tmp_path / "b[2].png"], tmp_path / "out")


def test_one_image_is_written_to_a_file_or_into_a_folder(photos, tmp_path):
    image = photos / "a.png"
    assert plan([image], tmp_path / "big.PNG") == [(image, tmp_path / "big.PNG")]
    assert plan([image], tmp_path / "v1.2") == [(image, tmp_path / "v1.2" / "a.png")]
    (tmp_path / "dir.png").mkdir()
    assert plan([image], tmp_path / "dir.png") == [(image, tmp_path / "dir.png" / "a.png")]
    assert plan([image], tmp_path / "big.jpg") == [(image, tmp_path / "big.jpg")]
    assert plan([image], STREAM, extension=".jpg") == [(image, STREAM)]
    assert plan([STREAM], tmp_path / "big.jpg") == [(STREAM, tmp_path / "big.jpg")]


def test_format_and_suffix_set_the_output_names(tmp_path):
    for name, frames in (("still.gif", 1), ("moving.gif", 2), ("moving2.webp", 2)):
        more = [Image.new("L", (4, 4), 200)] * (frames - 1)
        Image.new("L", (4, 4)).save(tmp_path / name, save_all=True, append_images=more)
    (tmp_path / "damaged.gif").write_bytes(b"GIF89a")
    for options, expected in [
        ({}, ["damaged.png", "moving.webp", "moving2.webp", "still.png"]),
        (
            {"suffix": "_x4"},
            ["damaged_x4.png", "moving_x4.webp", "moving2_x4.webp", "still_x4.png"],
        ),
        ({"extension": ".gif"}, ["damaged.gif", "moving.gif", "moving2.gif", "still.gif"]),
    ]:
        assert names(plan([tmp_path], tmp_path / "out", **options), tmp_path / "out") == expected
    videos = [tmp_path / name for name in ("a.mp4", "b.MKV", "c.avi")]
    for video in videos:
        video.touch()
    output = tmp_path / "out"
    assert names(plan(videos, output, extension=".jpg"), output) == ["a.mp4", "b.mkv", "c.mp4"]
    assert len(plan([tmp_path], output)) == 4  # videos are taken only if named


def test_results_of_an_earlier_run_are_not_inputs(photos, tmp_path):
    inside = photos / "out"
    expected = ["a.png", "sub/Ünï köde.v2.png"]
    for source in (photos, photos / "**/*.png"):
        for _, target in plan([source], inside):
            write_image(target, np.zeros((4, 4, 3), np.uint8))
        assert names(plan([source], inside), inside) == expected
    write_image(photos / "b_x4.png", np.zeros((4, 4, 3), np.uint8))  # not a result of this run
    for source in (photos / "sub", photos / "sub/*"):
        for _ in range(2):
            jobs = plan([source], photos / "sub", suffix="_x4")
            assert names(jobs, photos / "sub") == ["Ünï köde.v2_x4.png"]
            write_image(jobs[0][1], np.zeros((4, 4, 3), np.uint8))
    (photos / "sub/Ünï köde.v2_x4.png").unlink()
    jobs = plan([photos / "*.png"], photos, suffix="_x4")
    assert names(jobs, photos) == ["a_x4.png", "b_x4_x4.png"]


def test_the_output_may_be_the_parent_folder(photos):
    assert names(plan([photos / "sub"], photos), photos) == ["Ünï köde.v2.png"]


def test_an_image_named_twice_is_upscaled_once(photos, tmp_path):
    jobs = plan([photos, photos, photos / "a.png"], tmp_path / "out")
    assert names(jobs, tmp_path / "out") == ["a.png", "sub/Ünï köde.v2.png"]


def test_conflicting_inputs_and_outputs_are_refused(photos, tmp_path):
    (photos / "a.jpg").touch()
    (tmp_path / "video.mp4").touch()
    (photos / "link.png").symlink_to(photos / "a.png")
    other = tmp_path / "other"
    write_image(other / "a.png", np.zeros((4, 4, 3), np.uint8))
    out, image, video = tmp_path / "out", photos / "a.png", tmp_path / "video.mp4"
    for inputs, output, message in [
        ([photos], out, r"a\.jpg and .*a\.png would both"),
        ([image, other], out, r"photos/a\.png and .*other/a\.png would both"),
        ([other / "a.png"], other / "a.png", "overwrite"),
        ([photos / "link.png"], image, "overwrite"),
        ([other / "a.png"], other, "overwrite"),
        ([other], other, "is the input folder"),
        ([tmp_path / "none.png"], out, "no image or folder .*none.png"),
        ([Path("x" * 300)], out, "no image or folder"),
        ([tmp_path / "*.tga"], out, r"no image matches .*\*\.tga"),
        ([photos], tmp_path / "out.png", "is one file; name a folder"),
        ([photos], STREAM, "is one file"),
        ([other], photos / "notes.txt", "a file must end in"),
        ([image], tmp_path / "out.bmp", "a file must end in"),
        ([image], image / "out", r"a\.png is a file, not a folder"),
        ([image], image / "out.png", r"a\.png is a file, not a folder"),
        ([image], tmp_path / "out.mp4", "is an image and .* would be a video"),
        ([video], out.with_suffix(".png"), "is a video and .* would be an image"),
        ([video], STREAM, "is a video: name a file as --output"),
        ([STREAM], out, "standard input becomes one file"),
    ]:
        with pytest.raises(InputError, match=message):
            plan(inputs, output)
    for options in ({"suffix": "_x4"}, {"extension": ".png"}):
        with pytest.raises(InputError, match="leave --suffix and --format out"):
            plan([image], tmp_path / "big.png", **options)
    assert os.listdir(other) == ["a.png"]


@pytest.mark.parametrize("end", ["loop.png", "nothing.png"])
def test_broken_links_are_refused(tmp_path, end):
    link, image = tmp_path / "loop.png", tmp_path / "a.png"
    image.touch()
    link.symlink_to(tmp_path / end)
    message = f"loop.png is a link to .*{end}, which does not exist or leads back to it"
    for inputs, output in (([link], tmp_path / "out"), ([image], link)):
        with pytest.raises(InputError, match=message):
            plan(inputs, output)
    assert link.is_symlink()


def test_a_device_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((Path("/dev/null"), "a device"), (tmp_path / "pipe", "a pipe")):
        with pytest.raises(InputError, match=f"{path} is {kind}, not a file; give - to read"):
            plan([path], tmp_path / "out.png")


def test_an_unwritable_folder_is_refused(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(
        os, "access", lambda place, _: place != tmp_path
    )  # as root may write anywhere
    for output in (tmp_path / "new/out", tmp_path / "big.png", tmp_path):
        with pytest.raises(InputError, match=f"the folder {tmp_path} is not writable"):
            plan([photos / "a.png"], output)
    assert plan([photos / "a.png"], photos / "new")


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["a.png", "-"], "image"),
        (["a.mp4", "b.MKV"], "video"),
        (["a.mp4", "b.png"], "file"),
        ([], "image"),
    ],
)
def test_noun_says_what_the_targets_are(targets, expected):
    assert noun([(Path("a"), Path(target)) for target in targets]) == expected


@pytest.mark.parametrize(
    ("result_options", "expected"),
    [
        ({}, (28, 36)),
        ({"scale": 2.5}, (18, 22)),
        ({"scale": 0.3}, (2, 3)),
        ({"scale": 0.001}, (1, 1)),
        ({"size": (100, 0)}, (78, 100)),
        ({"size": (0, 100)}, (100, 129)),
        ({"size": (5, 100)}, (100, 5)),
    ],
)
def test_result_size_follows_scale_or_size(result_options, expected):
    class Four:
        scale = 4

    assert ResultOptions(**result_options).result_size(7, 9, Four()) == expected


def test_a_pattern_finds_each_file_once_despite_links_to_folders_above(tmp_path):
    write_image(tmp_path / "a/x.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "a/y.png").symlink_to("x.png")
    (tmp_path / "a/loop").symlink_to("..")
    jobs = plan([tmp_path / "**/*.png"], tmp_path / "out")
    assert [source for source, _ in jobs] == [tmp_path / "a/x.png", tmp_path / "a/y.png"]


def test_the_root_folder_can_be_named():
    assert files.too_long(Path("/")) is None
