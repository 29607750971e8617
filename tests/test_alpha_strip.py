"""tools/alpha_strip.py: which mixtures it shows, in which order."""

import numpy as np
import pytest

from esrgan_jax.comparison import comparison
from esrgan_jax.errors import InputError
from esrgan_jax.picture import read_picture, write_picture
from esrgan_jax.upscaler import Upscaler
from tools import alpha_strip


@pytest.fixture
def picture(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    write_picture(tmp_path / "small.png", values)
    return tmp_path / "small.png"


def strip(picture, *options):
    output = picture.with_name("strip.png")
    alpha_strip.main([str(picture), f"--output={output}", *options])
    return read_picture(output)


def test_panels_go_from_the_psnr_network_to_the_gan_network(picture):
    """Every panel is its mixture's result, boxed and zoomed, below a label."""
    lr = read_picture(picture)
    panels = [
        (f"alpha {alpha}", Upscaler.load(alpha=float(alpha))(lr)) for alpha in ("0", "0.5", "1")
    ]
    expected = comparison(panels, box=(4, 8, 20, 24), zoom=2)
    shown = strip(picture, "--alphas=0,0.5,1", "--box=4,8,20,24", "--zoom=2")
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("given", ["--model=lite-x4-gan", "--psnr_model=lite-x4-psnr"])
def test_one_network_alone_is_no_mixture(picture, given):
    with pytest.raises(InputError, match="go together"):
        strip(picture, given)


@pytest.mark.parametrize("wrong", ["--alphas=0,half", "--box=1,2,3", "--box=0,0,a,b"])
def test_lists_that_are_none_are_told(picture, wrong, capsys):
    with pytest.raises(SystemExit):
        strip(picture, wrong)
    assert "is not" in capsys.readouterr().err
