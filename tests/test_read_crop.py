"""Parts of images equal the same parts of the whole, for every way of coding."""

import numpy as np
import pytest
import pyvips
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import read_crop, read_image

TURNED = Image.Exif()
TURNED[0x0112] = 6  # orientation
CODINGS = {
    "rgb.png": ("RGB", {}),
    "palette.png": ("P", {}),
    "gray.png": ("LA", {}),
    "jpeg.jpg": ("RGB", {"quality": 80}),
    "progressive.jpg": ("RGB", {"quality": 80, "progressive": True}),
    "full.jpg": ("RGB", {"quality": 90, "subsampling": 0}),
    "gray.jpg": ("L", {}),
    "cmyk.jpg": ("CMYK", {}),
    "turned.jpg": ("RGB", {"exif": TURNED}),
    "webp.webp": ("RGB", {}),
    "bmp.bmp": ("RGB", {}),
}
WINDOWS = [(0, 0, 32, 32), (57, 33, 48, 40), (90, 101, 43, 50), (0, 0, 133, 151)]


@pytest.fixture
def smooth(rng):
    """(133, 151, 3), odd sides, of which JPEG keeps something."""
    rows, columns = np.mgrid[:133, :151]
    waves = np.stack([rows + columns, 2 * rows, 3 * columns], axis=-1)
    return (waves + rng.integers(0, 40, waves.shape)).astype(np.uint8)


@pytest.mark.parametrize("name", CODINGS)
def test_a_part_equals_that_of_the_whole(tmp_path, smooth, name):
    mode, options = CODINGS[name]
    Image.fromarray(smooth).convert(mode).save(tmp_path / name, **options)
    whole = read_image(tmp_path / name)
    assert whole.shape == ((151, 133, 3) if name == "turned.jpg" else (133, 151, 3))
    for top, left, height, width in WINDOWS[: 2 if name == "turned.jpg" else 4]:
        part = read_crop(tmp_path / name, top, left, height, width)
        expected = whole[top : top + height, left : left + width]
        assert (part.shape, part.dtype) == (expected.shape, np.uint8)
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("options", [{"interlace": True}, {"bitdepth": 16}])
def test_interlaced_and_deep_png(tmp_path, smooth, options):
    image = pyvips.Image.new_from_array(smooth.astype(np.uint16) * 251, interpretation="rgb16")
    if "bitdepth" not in options:
        image = pyvips.Image.new_from_array(smooth)
    image.pngsave(str(tmp_path / "a.png"), **options)
    whole = read_image(tmp_path / "a.png")
    for top, left, height, width in WINDOWS:
        np.testing.assert_array_equal(
            read_crop(tmp_path / "a.png", top, left, height, width),
            whole[top : top + height, left : left + width],
        )


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_no_row_below_is_decoded(tmp_path, rng, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rng.integers(0, 256, (600, 64, 3), dtype=np.uint8)).save(path)
    expected = read_image(path)[10:60, 8:40]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    np.testing.assert_array_equal(read_crop(path, 10, 8, 50, 32), expected)
    with pytest.raises(InputError, match=rf"a\.{suffix}: "):
        read_crop(path, 500, 8, 50, 32)


def test_a_harmless_warning_is_no_damage(tmp_path, smooth):
    """What follows the image in the file, such as a preview, makes libjpeg warn."""
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1\x00\x04ab" + b"\x00" * 3 + data[2:])
    whole = read_image(path)
    np.testing.assert_array_equal(read_crop(path, 20, 30, 40, 50), whole[20:60, 30:80])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a\.png: .*no such file"):
        read_crop(tmp_path / "a.png", 0, 0, 1, 1)
