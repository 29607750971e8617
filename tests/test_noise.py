"""Noise next to SciPy's distributions and to what BasicSR's formulas say of it."""

import jax
import numpy as np
import pytest
from scipy import stats

from esrgan_jax.degradation import noise

KEY = jax.random.key(0)
gaussian = jax.jit(noise.gaussian_noise)
poisson = jax.jit(noise.poisson_noise)


def test_gaussian_noise_has_its_deviation_in_color_and_gray():
    image = np.full((64, 64, 3), 0.5, np.float32)
    for gray in (False, True):
        added = np.asarray(gaussian(KEY, image, 0.1, gray)) - 0.5
        assert added.std() == pytest.approx(0.1, rel=0.05)
        assert (np.ptp(added, axis=-1).max() == 0) == gray


@pytest.mark.parametrize("add", [gaussian, poisson])
def test_noise_is_clipped_and_vanishes_at_zero(add, rng):
    image = rng.random((16, 16, 3), np.float32)
    np.testing.assert_allclose(add(KEY, image, 0, False), image, atol=1e-6)
    loud = np.asarray(add(KEY, image, 9, False))
    assert (loud.min(), loud.max()) == (0, 1)


def test_poisson_numbers_are_those_of_scipy(rng):
    normal = rng.standard_normal((300, 2000)).astype(np.float32)
    means = np.concatenate([[0, 0.01], np.linspace(0.1, 9, 98), np.linspace(9, 256, 200)])
    mean = np.repeat(means[:, None], 2000, axis=1).astype(np.float32)
    ours = np.asarray(jax.jit(noise.poisson)(normal, mean))
    off = np.abs(ours - stats.poisson.ppf(stats.norm.cdf(normal.astype(np.float64)), mean))
    assert off.max() <= 1
    assert off.mean() < 1e-3
    assert off.reshape(-1, 10, 2000).mean(axis=(1, 2)).max() < 2e-3


def test_poisson_noise_has_the_variance_of_the_light(rng):
    """Four levels: samples are quarters of Poisson numbers, and half of the noise is added."""
    level = np.repeat([13, 51, 128, 200], 64 * 32).reshape(64, 128)
    image = np.stack([level] * 3, -1).astype(np.float32) / 255
    for gray in (False, True):
        added = np.asarray(poisson(KEY, image, 0.5, gray)) - image
        counts = np.arange(20)
        for x in (13, 51, 128):
            # The expected value and variance after clipping, which matters where it is dark.
            lit = np.clip(x / 255 + 0.5 * (counts / 4 - x / 255), 0, 1)
            weights = stats.poisson.pmf(counts, 4 * x / 255)
            mean = (weights * lit).sum()
            found = (image + added)[level == x]
            assert found.mean() == pytest.approx(mean, abs=0.01)
            assert found.var() == pytest.approx((weights * (lit - mean) ** 2).sum(), rel=0.1)
        assert (np.ptp(added, axis=-1).max() < 1e-6) == gray


@pytest.mark.parametrize("count", [1, 2, 97, 256])
def test_distinct_levels_are_counted(rng, count):
    levels = rng.permutation(256)[:count]
    image = rng.choice(np.concatenate([levels, levels]), (40, 40, 3))
    image.flat[:count] = levels
    assert jax.jit(noise.distinct)(image.astype(np.float32)) == count


def test_images_of_a_batch_have_noise_of_their_own(rng):
    images = np.stack([rng.random((8, 8, 3), np.float32)] * 2)
    keys = jax.random.split(KEY, 2)
    values = np.array([0.2, 0.7], np.float32), np.array([True, False])
    together = jax.jit(jax.vmap(noise.poisson_noise))(keys, images, *values)
    alone = [poisson(*one) for one in zip(keys, images, *values, strict=True)]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-6)
