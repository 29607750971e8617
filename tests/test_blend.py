"""Which networks and weights the model arguments select, and which combinations are refused."""

import pytest

from esrgan_jax.blend import ALPHA, DENOISE, GAN, PSNR, REAL, REAL_PSNR, weighted_models
from esrgan_jax.errors import InputError
from esrgan_jax.interop.zoo import fetch


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"denoise": 0, "alpha": 0.25}, {fetch(PSNR): 0.75, fetch(GAN): 0.25}),
        ({"denoise": 1, "alpha": 0.25}, {fetch(REAL_PSNR): 0.75, fetch(REAL): 0.25}),
        ({"denoise": 0.25, "alpha": 1}, {fetch(GAN): 0.75, fetch(REAL): 0.25}),
        ({"model": "m"}, {"m": 1}),
        ({"model": {"m": 0.5, "n": 0.3, "o": 0.2}}, {"m": 0.5, "n": 0.3, "o": 0.2}),
        ({"model": "m", "psnr_model": "p", "alpha": 0.25}, {"p": 0.75, "m": 0.25}),
    ],
)
def test_arguments_select_models_and_weights(given, expected):
    assert weighted_models(**given) == list(expected.items())


def test_all_packaged_networks_can_be_blended():
    names = ("lite_x4_psnr", "lite_x4_gan", "lite_x4_real_psnr", "lite_x4_real")
    found = {path.stem: weight for path, weight in weighted_models(denoise=0.25, alpha=0.5)}
    assert found == dict(zip(names, (0.375, 0.375, 0.125, 0.125), strict=True))
    assert weighted_models() == weighted_models(alpha=ALPHA, denoise=DENOISE)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"psnr_model": "p"}, "^psnr_model without model: name the network .* leave both out"),
        ({"psnr_model": "p", "alpha": 0.5}, "^psnr_model without model"),
        ({"model": "m", "psnr_model": "p"}, "^psnr_model without alpha"),
        ({"model": "m", "alpha": 0.5}, "^alpha without psnr_model: .* leave the model out"),
        ({"model": "m", "psnr_model": "p", "alpha": float("nan")}, "^alpha is nan: give a finite"),
        ({"alpha": float("inf")}, "^alpha is inf: give a finite"),
        ({"denoise": float("nan")}, "^denoise is nan: give a finite"),
        ({"model": "m", "denoise": 0.5}, "^denoise interpolates the package's networks: leave out"),
        ({"model": {}}, "give weights of one or more models"),
        ({"model": {"m": 1}, "alpha": 0.5}, "not both"),
        ({"model": {"m": 0.5, "n": 0.5}, "psnr_model": "p", "alpha": 0.5}, "not both"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        weighted_models(**given)
