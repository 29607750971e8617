"""Which networks are meant, given or left out."""

import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.mixture import ALPHA, mixture


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"lite-x4-psnr": 1 - ALPHA, "lite-x4-gan": ALPHA}),
        ({"alpha": 0.25}, {"lite-x4-psnr": 0.75, "lite-x4-gan": 0.25}),
        ({"alpha": 0.0}, {"lite-x4-psnr": 1, "lite-x4-gan": 0}),
        ({"model": "m"}, {"m": 1}),
        ({"model": {"m": 0.5, "n": 0.3, "o": 0.2}}, {"m": 0.5, "n": 0.3, "o": 0.2}),
        ({"model": "m", "psnr_model": "p", "alpha": 0.25}, {"p": 0.75, "m": 0.25}),
    ],
)
def test_the_package_stands_in_where_no_model_is_named(given, expected):
    assert mixture(**given) == list(expected.items())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"psnr_model": "p"}, "^psnr_model without model: .*alpha 0 is the psnr_model"),
        ({"psnr_model": "p", "alpha": 0.5}, "^psnr_model without model"),
        ({"model": "m", "psnr_model": "p"}, "^psnr_model without alpha"),
        ({"model": "m", "alpha": 0.5}, "^alpha without psnr_model"),
        ({"model": {"m": 0.5, "n": 0.5}, "psnr_model": "p", "alpha": 0.5}, "not both"),
    ],
)
def test_what_does_not_fit_together(given, message):
    with pytest.raises(InputError, match=message):
        mixture(**given)
