"""Reading images for training, writing PNGs, and finding images in folders."""

import errno
import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images import image_file as image_module
from esrgan_jax.images.image_file import find_images, image_size, read_image, write_image
from tests.test_image_reader import oriented


@pytest.fixture
def array(rng):
    return rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif"])
def test_lossless_formats_are_read_exactly(tmp_path, array, suffix):
    path = tmp_path / f"a[page=1].{suffix.upper()}"
    Image.fromarray(array).save(path)
    np.testing.assert_array_equal(read_image(path), array)
    assert image_size(path) == (40, 30)


def test_an_overwritten_file_is_read_again(tmp_path, array):
    write_image(tmp_path / "a.png", array)
    read_image(tmp_path / "a.png")
    write_image(tmp_path / "a.png", 255 - array)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), 255 - array)


def test_all_pixel_formats_are_read_as_three_channels(tmp_path, array):
    gray = array[..., 0]
    images = {
        "L": (Image.fromarray(gray), gray),
        "LA": (Image.fromarray(array[..., :2], "LA"), gray),
        "RGBA": (Image.fromarray(np.dstack([array, gray])), array),
        "1": (Image.fromarray(gray > 127), np.where(gray > 127, 255, 0)),
        "P": (Image.fromarray(gray // 64).convert("P"), gray // 64),
    }
    for mode, (image, expected) in images.items():
        image.save(tmp_path / "a.png")
        expected = np.broadcast_to(np.atleast_3d(expected), (40, 30, 3))
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected, err_msg=mode)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_rounded_to_eight(tmp_path, rng, channels):
    deep = rng.integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    write_image(tmp_path / "a.png", deep)
    expected = np.round(deep[..., :3] / 257).astype(np.uint8)
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.png"), np.broadcast_to(expected, (20, 30, 3))
    )


@pytest.mark.parametrize("highest", [1, 4, 255])
@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4), (5, 4, 5)])
def test_floats_are_levels_not_linear_light(tmp_path, rng, shape, highest):
    """Above 1 they are HDR light, whose brightest parts are lost, or whole numbers."""
    array = (rng.uniform(0, 1, shape) * highest).astype(np.float32)
    array.flat[0] = highest
    options = {"photometric": "rgb"} if len(shape) == 3 else {"photometric": "minisblack"}
    options |= {"extrasamples": ["unspecified"] * 2} if shape[2:] == (5,) else {}
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    levels = np.minimum(array / (255 if highest == 255 else 1), 1)
    expected = np.rint(levels * 255).reshape(5, 4, -1)[..., :3]
    assert np.array_equal(read_image(tmp_path / "a.tif"), np.broadcast_to(expected, (5, 4, 3)))


def test_cmyk_is_converted_to_similar_colours(tmp_path):
    gray = np.full((16, 16, 3), 128, np.uint8)
    Image.fromarray(gray).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    read = read_image(tmp_path / "a.jpg").astype(int)
    assert read.shape == (16, 16, 3)
    assert np.ptp(read, axis=-1).max() < 20
    assert 80 < read.mean() < 180


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, array, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
    expected = oriented(array, orientation)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)
    assert image_size(tmp_path / "a.png") == expected.shape[:2]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_the_error_for_a_truncated_image_names_the_file(tmp_path, rng, suffix):
    path = tmp_path / f"half.{suffix}"
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"half\.{suffix}: cannot be read as an image: \w+"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image at all"])
@pytest.mark.parametrize("name", ["a.png", "a.bmp"])
@pytest.mark.parametrize("read", [read_image, image_size])
def test_read_errors_name_the_file(tmp_path, content, name, read):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: cannot be read"):
        read(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / f"missing{name}")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_written_files_are_read_by_pillow(tmp_path, rng, dtype, channels):
    array = rng.integers(0, np.iinfo(dtype).max + 1, (5, 7, channels)).astype(dtype)
    path = tmp_path / "new" / "folder" / "a.png"
    write_image(path, array)
    assert os.listdir(path.parent) == ["a.png"]
    read = np.atleast_3d(np.array(Image.open(path)))
    if dtype == np.uint16 and channels > 1:  # Pillow keeps only the high byte of 16-bit colour
        array = array >> 8
    np.testing.assert_array_equal(read, array)


def test_images_that_cannot_be_written_are_refused(tmp_path, array):
    with pytest.raises(InputError, match=r"a name ending in \.png"):
        write_image(tmp_path / "a.jpg", array)
    with pytest.raises(InputError, match=r"not \(40, 30\)"):
        write_image(tmp_path / "a.png", array[..., 0])
    with pytest.raises(InputError, match="not float64"):
        write_image(tmp_path / "a.png", array / 255)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be written"):
        write_image(tmp_path / "file" / "a.png", array)
    assert os.listdir(tmp_path) == ["file"]


def test_find_images_searches_subfolders_and_skips_hidden_files(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.bmp", ".hidden/a.png", "b/._1.jpg", "notes.txt", "png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a.bmp", "b/1.jpg", "b/2.PNG"]
    (tmp_path / "c").symlink_to(tmp_path / "b")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/1.jpg", "a/2.PNG", "a.bmp"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no image in it; known are \.avif, "):
        find_images(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        find_images(tmp_path / "none")
    with pytest.raises(InputError, match="is not a folder"):
        find_images(tmp_path / "a.bmp")


def test_errors_in_parallel_threads_have_the_cause_of_their_own_file(tmp_path: Path) -> None:
    """libvips has one error buffer for all threads, so a broken JPEG was once blamed on libpng."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a.jpg", "b.png", "c.tif", "d.webp"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, {"jpg": "jpeg", "tif": "tiff"}.get(name[2:], name[2:]))
        (tmp_path / name).write_bytes(file.getvalue()[: file.tell() // 2])
        (tmp_path / f"whole_{name}").write_bytes(file.getvalue())

    def shape_or_error(path: Path) -> str:
        try:
            return str(read_image(path).shape)
        except InputError as error:
            return str(error).replace(str(path), "it")

    paths = sorted(tmp_path.iterdir())
    alone = {path: shape_or_error(path) for path in paths}
    assert alone[tmp_path / "a.jpg"].endswith(
        "truncated or damaged: the last 64 of its 64 rows are missing"
    )
    assert alone[tmp_path / "whole_a.jpg"] == "(64, 64, 3)"
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(shape_or_error, paths * 25))
    assert together == [alone[path] for path in paths] * 25


def test_a_failed_read_is_repeated_alone(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
    load, calls = image_module.load_vips, []

    def fail(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:  # as if by another thread's error
            raise pyvips.Error("unable to call jpegload", "vipspng: libpng read error")
        return load(*arguments, **options)

    monkeypatch.setattr(image_module, "load_vips", fail)
    assert read_image(path).shape == (16, 16, 3)  # the file itself is valid
    assert len(calls) == 2


def _jpeg(rng, **options) -> bytes:
    file = io.BytesIO()
    pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(file, "jpeg", quality=90, **options)
    return file.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpegs_are_refused_for_training(tmp_path, rng, progressive):
    """If an end marker follows the cut, decoders silently fill the rest with gray."""
    whole = _jpeg(rng, progressive=progressive)
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    with pytest.raises(InputError, match=r"cut\.jpg: .* missing"):
        read_image(tmp_path / "cut.jpg")


def test_jpegs_with_harmless_faults_are_read_for_training(tmp_path, rng):
    whole = _jpeg(rng)
    (tmp_path / "whole.jpg").write_bytes(whole)
    expected = read_image(tmp_path / "whole.jpg")
    junk = {"end": whole[:-2], "after": whole + b"junk", "before": whole[:-2] + b"\0\0\xff\xd9"}
    for name, data in junk.items():
        (tmp_path / f"{name}.jpg").write_bytes(data)
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.jpg"), expected, name)


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    (tmp_path / "sub").mkdir()
    scan = os.scandir

    def refused(path):
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match="sub: cannot be listed: Permission denied"):
        find_images(tmp_path)
