"""tools/alpha_strip.py: the blends that it shows and their order, and its errors."""

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.comparison import comparison
from esrgan_jax.images.image_blend import blend
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.upscaling.upscaler import Upscaler
from tools import alpha_strip


@pytest.fixture
def image(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    write_image(tmp_path / "small.png", values)
    return tmp_path / "small.png"


def strip(image, *options):
    output = image.with_name("strip.png")
    alpha_strip.main([str(image), f"--output={output}", *options])
    return read_image(output)


def test_panels_go_from_the_psnr_network_to_the_gan_network(image):
    """Every panel shows its blend's result, cropped to the box and zoomed, with a label."""
    lr = read_image(image)
    panels = [
        (f"alpha {alpha}", Upscaler.load(alpha=float(alpha), denoise=0)(lr))
        for alpha in ("0", "0.5", "1")
    ]
    expected = comparison(panels, box=(4, 8, 20, 24), zoom=2)
    shown = strip(image, "--alphas=0,0.5,1", "--box=4,8,20,24", "--zoom=2")
    np.testing.assert_array_equal(shown, expected)


def test_blends_of_the_two_results_are_below(image):
    lr = read_image(image)
    psnr, middle, gan = (Upscaler.load(alpha=alpha, denoise=0)(lr) for alpha in (0, 0.5, 1))
    rows = [{"0.5": middle, "1": gan}, {"0.5": blend(psnr, gan, 0.5), "1": gan}]
    expected = [comparison([(f"alpha {a}", row[a]) for a in row]) for row in rows]
    shown = strip(image, "--alphas=0.5,1", "--pictures")
    np.testing.assert_array_equal(shown, np.concatenate(expected))


def test_other_networks_can_be_given(image):
    lr = read_image(image)
    panels = [
        (f"alpha {alpha:g}", Upscaler.load(alpha=alpha, denoise=0)(lr))
        for alpha in alpha_strip.ALPHAS
    ]
    assert (panels[0][0], panels[-1][0]) == ("alpha 0", "alpha 1")
    swapped = strip(image, "--psnr_model=lite-x4-gan", "--model=lite-x4-psnr")
    labels = [label for label, _ in panels]
    results = [result for _, result in panels[::-1]]
    expected = comparison(list(zip(labels, results, strict=True)))
    np.testing.assert_allclose(
        swapped.astype(float), expected, atol=1
    )  # 0.2 is not exactly 1 - 0.8


def test_overwriting_the_input_and_other_formats_are_refused(image):
    before = image.read_bytes()
    for name, message in ((image.name, "would overwrite the input"), ("a.jpg", "only PNG")):
        with pytest.raises(InputError, match=message):
            alpha_strip.main([str(image), f"--output={image.with_name(name)}"])
    assert image.read_bytes() == before


@pytest.mark.parametrize("flag", ["--model=lite-x4-gan", "--psnr_model=lite-x4-psnr"])
def test_one_network_without_the_other_is_refused(image, flag):
    with pytest.raises(InputError, match="go together"):
        strip(image, flag)


@pytest.mark.parametrize("wrong", ["--alphas=0,half", "--box=1,2,3", "--box=0,0,a,b"])
def test_malformed_lists_are_refused(image, wrong):
    with pytest.raises(InputError, match="is not"):
        strip(image, wrong)


@pytest.mark.parametrize("zoom", [0, 17, 100_000])
def test_zoom_out_of_range_is_refused(image, zoom):
    with pytest.raises(InputError, match=f"--zoom={zoom}: take a whole number from 1 to 16"):
        strip(image, f"--zoom={zoom}")
