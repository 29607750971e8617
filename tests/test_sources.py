"""Tests of image sources: folders, pairs of folders, and prepared sub-images."""

import pickle
import shutil

import numpy as np
import pytest

from esrgan_jax.data.builder import cut, window_starts, write_sub_images
from esrgan_jax.data.sources import ArrayRecordSource, ImageFolder, PairedFolder, open_source
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.image_file import read_image, write_image


def fill(folder, sizes, rng):
    """Writes random images of the given {name: (height, width)} and returns their arrays."""
    arrays = {
        name: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for name, size in sizes.items()
    }
    for name, array in arrays.items():
        write_image(folder / f"{name}.png", array)
    return arrays


def corrupt(path):
    """Cuts the file to half its size: the header remains, pixels are lost."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_images_are_ordered_by_folder_and_path(tmp_path, rng):
    arrays = fill(tmp_path, {"a/2": (20, 30), "a/sub/1": (30, 20), "b/0": (20, 20)}, rng)
    source = ImageFolder([tmp_path / "b", tmp_path / "a"], 20)
    expected = [arrays[name] for name in ("b/0", "a/2", "a/sub/1")]
    for copy in (source, pickle.loads(pickle.dumps(source))):
        assert len(copy) == 3
        for index, array in enumerate(expected):
            assert list(copy[index]) == ["hr"]
            np.testing.assert_array_equal(copy[index]["hr"], array)
    with pytest.raises(IndexError):
        source[3]


def test_images_that_are_left_out_are_reported(tmp_path, rng, capfd):
    fill(tmp_path, {"fine": (32, 40), "small": (31, 40)}, rng)
    (tmp_path / "junk.jpg").write_bytes(b"junk")
    assert len(ImageFolder(tmp_path, 32)) == 1
    errors = capfd.readouterr().err
    assert "small.png: 40x31 pixels, smaller than a patch of 32" in errors
    assert "junk.jpg: cannot be read as an image" in errors
    assert "left out 2 of 3 images" in errors
    with pytest.raises(InputError, match="none of 3 images can be used"):
        ImageFolder(tmp_path, 64)


def test_decoded_images_are_cached_up_to_the_memory_limit(tmp_path, rng):
    fill(tmp_path, {"0": (32, 32), "1": (32, 32)}, rng)
    large, small = ImageFolder(tmp_path, 32), ImageFolder(tmp_path, 32, memory=3 * 32 * 32)
    before = {source: [source[0]["hr"], source[1]["hr"]] for source in (large, small)}
    assert large[0]["hr"] is before[large][0]
    assert large[1]["hr"] is before[large][1]
    assert small[0]["hr"] is before[small][0]
    assert small[1]["hr"] is not before[small][1]
    np.testing.assert_array_equal(small[1]["hr"], before[small][1])


def test_only_a_part_is_decoded_where_images_do_not_fit_in_memory(tmp_path, rng):
    """Every image once as a whole, then what a crop needs: not the damaged end of the file."""
    (array,) = fill(tmp_path, {"0": (300, 200)}, rng).values()
    source = ImageFolder(tmp_path, 32, memory=0)
    assert source.decodes
    np.testing.assert_array_equal(source[0]["hr"], array)
    unread = source[0]["hr"]
    assert unread.shape == (300, 200, 3)
    corrupt(tmp_path / "0.png")
    np.testing.assert_array_equal(unread[100:132, 7:40], array[100:132, 7:40])
    with pytest.raises(RunError, match=r"0\.png: .*; it could be read before, so check its disk$"):
        unread[200:232, 7:40]
    assert not ImageFolder(tmp_path, 32, memory=3 * 300 * 200).decodes


def test_a_corrupt_image_is_reported_once_and_replaced_by_the_next(tmp_path, rng, capfd):
    arrays = fill(tmp_path, {"0": (64, 64), "1": (64, 64), "2": (64, 64)}, rng)
    corrupt(tmp_path / "2.png")
    source = ImageFolder(tmp_path, 64)
    capfd.readouterr()
    for _ in range(3):
        np.testing.assert_array_equal(source[2]["hr"], arrays["0"])
        np.testing.assert_array_equal(source[1]["hr"], arrays["1"])
    assert capfd.readouterr().err.count("2.png: cannot be read") == 1
    for name in "01":
        corrupt(tmp_path / f"{name}.png")
    with pytest.raises(RunError, match="none of the training images can be read"):
        pickle.loads(pickle.dumps(source))[0]


@pytest.mark.parametrize(
    ("lr_name", "hr_name"),
    [("a", "a"), ("ax4", "a"), ("a_x4", "a"), ("a_LR4", "a_HR"), ("a_LR", "a_HR"), ("bx4", "bx4")],
)
def test_lr_and_hr_images_are_paired_by_name(tmp_path, rng, lr_name, hr_name):
    hr = fill(tmp_path / "hr", {f"sub/{hr_name}": (34, 43), "other": (32, 32)}, rng)
    lr = fill(tmp_path / "lr", {f"sub/{lr_name}": (8, 10), "otherx4": (8, 8)}, rng)
    source = pickle.loads(pickle.dumps(PairedFolder(tmp_path / "lr", tmp_path / "hr", 4, 32)))
    assert len(source) == 2
    np.testing.assert_array_equal(source[1]["hr"], hr[f"sub/{hr_name}"])
    np.testing.assert_array_equal(source[1]["lr"], lr[f"sub/{lr_name}"])


def test_unmatched_images_and_wrong_sizes_are_listed(tmp_path, rng):
    fill(tmp_path / "hr", {"a": (32, 32), "b": (32, 40), "c": (32, 32)}, rng)
    fill(tmp_path / "lr", {"a": (8, 8), "b": (8, 8), "d": (8, 8)}, rng)
    with pytest.raises(InputError, match=r"2 images .* no partner: \S+c\.png, \S+d\.png"):
        open_source(tmp_path / "hr", tmp_path / "lr", scale=4, min_size=32)
    (tmp_path / "hr/c.png").unlink()
    (tmp_path / "lr/d.png").unlink()
    with pytest.raises(InputError, match=r"1 of 2 pairs .* HR / 4: \S+b\.png has 8x8, .* 40x32"):
        open_source(tmp_path / "hr", tmp_path / "lr", scale=4, min_size=32)
    fill(tmp_path / "hr", {"b": (32, 32)}, rng)
    assert len(open_source(tmp_path / "hr", tmp_path / "lr", scale=4, min_size=32)) == 2
    (tmp_path / "lr/a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="differ only in the suffix"):
        open_source(tmp_path / "hr", tmp_path / "lr", scale=4, min_size=32)
    lr = [tmp_path / "lr", tmp_path / "other"]
    lr[1].mkdir()
    for name in ("a", "b"):
        (lr[0] / f"{name}.jpg").unlink(missing_ok=True)
        shutil.copy(lr[0] / f"{name}.png", lr[1])
    twice = open_source([tmp_path / "hr"] * 2, lr, scale=4, min_size=32)  # an HR of two LR
    assert len(twice) == 4
    assert twice.decoded_bytes == 2 * 3 * 2 * (32 * 32 + 8 * 8)
    with pytest.raises(InputError, match="1 LR folders for 2 HR folders"):
        open_source([tmp_path / "hr", tmp_path], tmp_path / "lr", scale=4, min_size=32)


@pytest.mark.parametrize(
    ("length", "leftover", "starts"),
    [
        (479, 0, []),
        (480, 0, [0]),
        (528, 48, [0]),
        (529, 48, [0, 49]),
        (481, 0, [0, 1]),
        (720, 48, [0, 240]),
        (1356, 48, [0, 240, 480, 720, 876]),
        (1356, 156, [0, 240, 480, 720]),
        (2040, 48, [0, 240, 480, 720, 960, 1200, 1440, 1560]),
    ],
)
def test_window_starts(length, leftover, starts):
    assert window_starts(length, 480, 240, leftover) == starts


def test_cut_returns_windows_row_by_row(rng):
    image = rng.integers(0, 256, (100, 130, 3), dtype=np.uint8)
    windows = list(cut(image, 48, 24, 0))
    places = [(i, j) for i in (0, 24, 48, 52) for j in (0, 24, 48, 72, 82)]
    assert len(windows) == len(places)
    for window, (i, j) in zip(windows, places, strict=True):
        np.testing.assert_array_equal(window, image[i : i + 48, j : j + 48])


def test_prepared_sub_images_can_be_read(tmp_path, rng):
    images = rng.integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    named = [(str(index), image) for index, image in enumerate(images)]
    parts = [named[:2], named[2:2], named[2:]]  # a file may be empty
    write_sub_images(tmp_path / "made", [lambda part=part: iter(part) for part in parts])
    source = open_source(tmp_path / "made", scale=4, min_size=24)
    assert isinstance(source, ArrayRecordSource)
    for copy in (source, pickle.loads(pickle.dumps(source))):
        read = [copy[index] for index in range(len(copy))]
        assert all(list(element) == ["hr"] for element in read)
        np.testing.assert_array_equal(np.stack([element["hr"] for element in read]), images)
    with pytest.raises(InputError, match="have 24 pixels a side, patches need 32"):
        open_source(tmp_path / "made", scale=4, min_size=32)
    with pytest.raises(InputError, match="cannot be combined"):
        open_source([tmp_path / "made", tmp_path], scale=4, min_size=24)
    with pytest.raises(InputError, match="has only HR"):
        open_source(tmp_path / "made", tmp_path, scale=4, min_size=24)
    next((tmp_path / "made").glob("*00002-of-00003")).unlink()
    with pytest.raises(InputError, match="make it again with `esrgan-jax prepare`"):
        open_source(tmp_path / "made", scale=4, min_size=24)


def test_open_source_refuses_folders_without_images(tmp_path):
    with pytest.raises(InputError, match="no image in it"):
        open_source(tmp_path, scale=4, min_size=32)
    with pytest.raises(InputError, match="no such folder"):
        open_source(tmp_path / "none", scale=4, min_size=32)
    with pytest.raises(InputError, match="name a folder"):
        open_source([], scale=4, min_size=32)
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read as prepared data"):
        open_source(tmp_path, scale=4, min_size=32)


def test_real_photographs(shared_data):
    source = open_source(shared_data / "photos/bsds500/test", scale=4, min_size=128)
    assert len(source) == 200
    np.testing.assert_array_equal(
        source[0]["hr"], read_image(shared_data / "photos/bsds500/test/100007.jpg")
    )
