"""tools/before_after.py: what its picture shows, and its errors."""

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.comparison import comparison
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.upscaling.upscaler import Upscaler
from tools import before_after


@pytest.fixture
def photo(tmp_path, rng):
    write_image(tmp_path / "hr.png", rng.integers(0, 256, (50, 66, 3), dtype=np.uint8))
    return tmp_path / "hr.png"


@pytest.mark.slow
def test_the_jpeg_is_enlarged_by_bicubic_and_by_the_networks(photo, tmp_path):
    before_after.main([str(photo), f"--output={tmp_path / 'picture.png'}", "--quality=30"])
    with Image.open(photo) as hr:
        small = hr.resize((16, 12), Image.Resampling.BICUBIC)
    small.save(tmp_path / "small.jpg", quality=30, subsampling="4:2:0")
    with Image.open(tmp_path / "small.jpg") as lr:
        bicubic = np.asarray(lr.resize((64, 48), Image.Resampling.BICUBIC))
        pixels = np.asarray(lr)
    panels = [
        ("JPEG of quality 30, bicubic", bicubic),
        ("--denoise=0", Upscaler.load(denoise=0)(pixels)),
        ("esrgan-jax upscale", Upscaler.load()(pixels)),
    ]
    np.testing.assert_array_equal(read_image(tmp_path / "picture.png"), comparison(panels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output=hr.png"], "would overwrite the input"),
        (["--output=a.xyz"], "--output=a.xyz: .xyz is not an output format"),
        (["--output=a.png", "--quality=0"], "--quality=0: take a whole number from 1 to 95"),
    ],
)
def test_wrong_outputs_and_qualities_are_refused(photo, monkeypatch, options, message):
    monkeypatch.chdir(photo.parent)
    with pytest.raises(InputError, match=message):
        before_after.main(["hr.png", *options])


def test_an_image_that_reduces_to_nothing_is_refused(tmp_path):
    write_image(tmp_path / "hr.png", np.zeros((3, 40, 3), np.uint8))
    with pytest.raises(InputError, match=r"hr.png: is smaller than 4 pixels"):
        before_after.main([str(tmp_path / "hr.png"), f"--output={tmp_path / 'a.png'}"])
