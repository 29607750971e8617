"""The figure of random degradations: its layout, its lines and its message."""

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import read_image, write_image
from tools import degradation_sheet


def test_tiles_lie_in_rows_with_each_pixel_as_a_square():
    tiles = np.zeros((32, 4, 4, 3), np.uint8)
    tiles[:] = np.arange(32).reshape(32, 1, 1, 1)
    tiles[9, 0, 1] = 200
    whole = degradation_sheet.sheet(tiles)
    assert whole.shape == (4 * 16, 8 * 16, 3)
    np.testing.assert_array_equal(whole[::16, 8::16, 0], np.arange(32).reshape(4, 8))
    assert (whole[16:20, 20:24] == 200).all()
    assert (whole == 200).sum() == 4 * 4 * 3


@pytest.mark.slow
def test_the_figure_is_written_and_the_draws_are_printed(tmp_path, rng, capsys):
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    write_image(source, rng.integers(0, 256, (260, 300, 3), dtype=np.uint8))
    degradation_sheet.main([str(source), str(target), "--seed=3"])
    assert read_image(target).shape == (1024, 2048, 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 32
    assert lines[8].startswith("2.1: ")
    assert all(line.count("jpeg") == 3 for line in lines)


def test_the_image_is_not_overwritten(tmp_path):
    image = str(tmp_path / "a.png")
    write_image(image, np.zeros((256, 256, 3), np.uint8))
    with pytest.raises(InputError, match="would overwrite the input"):
        degradation_sheet.main([image, image])


def test_a_small_image_is_refused(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((255, 300, 3), np.uint8))
    with pytest.raises(InputError, match="smaller than 256x256 pixels"):
        degradation_sheet.main([str(tmp_path / "a.png"), str(tmp_path / "b.png")])
