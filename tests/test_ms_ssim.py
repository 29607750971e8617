"""MS-SSIM and LDL against SciPy and NumPy in float64, with gradients by finite differences."""

import functools
from typing import Any

import jax
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, signal

from esrgan_jax.training.losses import ldl_loss
from esrgan_jax.training.ms_ssim import ms_ssim

PUBLISHED = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]  # Wang et al. 2003, §3.2


def ssim_maps(a, b):
    """Returns the maps of luminance and of contrast with structure of two images (H, W)."""

    def mean(x):
        return ndimage.gaussian_filter(x, 1.5, truncate=3.5)[5:-5, 5:-5]

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a**2) - mean_a**2, mean(b**2) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    return luminance, (2 * covariance + 9e-4) / (var_a + var_b + 9e-4)


def expected_ms_ssim(a, b, scales):
    values = []
    weights = np.array(PUBLISHED[:scales]) / sum(PUBLISHED[:scales])
    for image, other in zip(np.moveaxis(a, 3, 1), np.moveaxis(b, 3, 1), strict=True):
        for x, y in zip(image, other, strict=True):
            value = 1.0
            for index, weight in enumerate(weights):
                luminance, structure = ssim_maps(x, y)
                last = index == scales - 1
                value *= np.mean(luminance * structure if last else structure) ** weight
                x, y = (signal.convolve2d(z, np.full((2, 2), 0.25), "valid")[::2, ::2]
                        for z in (x, y))  # fmt: skip
            values.append(value)
    return np.mean(values)


def residuals(sr, hr):
    return np.abs(hr - sr).sum(axis=3)


def expected_ldl_loss(sr, hr, averaged):
    """Returns the loss by the formulas of arXiv 2203.09195 and BasicSR's `get_local_weights`."""
    residual = residuals(sr, hr)
    padded = np.pad(residual, ((0, 0), (3, 3), (3, 3)), mode="reflect")
    local = sliding_window_view(padded, (7, 7), (1, 2)).var(axis=(3, 4), ddof=1)
    weight = residual.var(axis=(1, 2), ddof=1)[:, None, None] ** 0.2 * local
    weight[residual < residuals(averaged, hr)] = 0
    assert 0.2 < np.mean(weight == 0) < 0.8
    return np.mean(weight[..., None] * np.abs(sr - hr))


@functools.cache
def compiled(loss: Any) -> Any:
    return jax.jit(jax.value_and_grad(loss))


def assert_agrees(loss: Any, expected, images, rng):
    """Compares the value and the derivative in a random direction of the first image."""
    value, gradient = compiled(loss)(*map(np.float32, images))
    np.testing.assert_allclose(value, expected(*images), rtol=1e-5)
    direction = rng.standard_normal(images[0].shape)
    above, below = (expected(images[0] + sign * 1e-6 * direction, *images[1:]) for sign in (1, -1))
    derivative = np.sum(np.float64(gradient) * direction)
    np.testing.assert_allclose(derivative, (above - below) / 2e-6, rtol=1e-3)


def photograph(rng, shape):
    """Returns images with structures of all sizes, in [0, 1]."""
    waves = ndimage.gaussian_filter(rng.standard_normal(shape), (0, 4, 4, 0))
    return np.clip(0.5 + 3 * waves + 0.05 * rng.standard_normal(shape), 0, 1)


@pytest.mark.parametrize(("shape", "scales"), [((1, 176, 180, 1), 5), ((2, 25, 37, 3), 2)])
def test_ms_ssim_equals_scipy(shape, scales, rng):
    hr = photograph(rng, shape)
    sr = np.clip(hr + 0.1 * rng.standard_normal(shape), 0, 1)
    assert 0.2 < expected_ms_ssim(sr, hr, scales) < 0.99
    assert_agrees(ms_ssim, lambda a, b: expected_ms_ssim(a, b, scales), (sr, hr), rng)


def test_ms_ssim_of_equal_and_of_inverted_images(rng):
    hr = np.float32(photograph(rng, (2, 25, 37, 3)))
    value, gradient = compiled(ms_ssim)(hr, hr)
    np.testing.assert_allclose(value, 1, rtol=1e-6)
    value, gradient = compiled(ms_ssim)(1 - hr, hr)  # structures are negative
    assert 0 <= value < 1e-3
    assert np.all(np.isfinite(gradient))


def test_ldl_loss_equals_numpy(rng):
    hr, noise, averaged = rng.random((3, 2, 12, 9, 3))
    sr = hr + 0.3 * noise * rng.random((2, 12, 9, 1))
    images = sr, hr, hr + 0.3 * averaged * rng.random((2, 12, 9, 1))
    assert_agrees(ldl_loss, expected_ldl_loss, images, rng)
