"""Winograd's method: the identity behind it, its result beside XLA's, its rounding errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from esrgan_jax.models import winograd
from esrgan_jax.models.winograd import convolve_winograd


def direct(x, kernel):
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=names)


def test_products_at_six_points_are_a_convolution(rng):
    """In float64: the six values of input and kernel give the four results."""
    rows, kernel = rng.normal(size=winograd.ROWS + 2), rng.normal(size=3)
    values = (winograd._OF_INPUT @ rows) * (winograd._OF_KERNEL @ kernel)
    expected = np.correlate(rows, kernel)
    np.testing.assert_allclose(winograd._OF_RESULT @ values, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("height", [1, 4, 7, 8])
def test_result_equals_a_direct_convolution(height, rng):
    x, kernel = rng.normal(size=(2, height, 5, 8)), rng.normal(size=(3, 3, 8, 6))
    with jax.enable_x64(True):
        found = convolve_winograd(jnp.asarray(x), jnp.asarray(kernel))
        np.testing.assert_allclose(found, direct(x, kernel), rtol=0, atol=1e-12)


def test_rounding_errors_are_little_more_than_those_of_a_direct_convolution(rng):
    """With the points 0, 1, -1, 2 and -2 they are twice as large."""
    x, kernel = rng.normal(size=(1, 32, 32, 64)), rng.normal(size=(3, 3, 64, 64))
    with jax.enable_x64(True):
        exact = np.asarray(direct(x, kernel))
    x, kernel = jnp.float32(x), jnp.float32(kernel)
    errors = [
        np.sqrt(np.mean((np.float64(f(x, kernel)) - exact) ** 2))
        for f in (convolve_winograd, direct)
    ]
    assert errors[0] < 1.6 * errors[1]
