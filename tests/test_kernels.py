"""Blur kernels next to the formulas in NumPy with a matrix of covariance, and to SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from esrgan_jax.degradation import kernels

SHAPES = [(1.3, 1.3, 0.0), (3.0, 0.4, 0.7), (0.2, 2.0, -2.8)]
made = jax.jit(kernels.kernel)


def make(family: str, size: int, sigmas=(1.0, 1.0, 0.0), beta=1.0, cutoff=1.0) -> np.ndarray:
    sigma_x, sigma_y, rotation = sigmas
    return np.asarray(
        made(
            kernels.FAMILIES.index(family),
            size,
            sigma_x=sigma_x,
            sigma_y=sigma_y,
            rotation=rotation,
            beta=beta,
            cutoff=cutoff,
        )
    )


def grid(size: int) -> np.ndarray:
    """Returns (x, y) of each place, (size, size, 2)."""
    axis = np.arange(size) - size // 2
    return np.stack(np.meshgrid(axis, axis), axis=-1).astype(np.float64)


def covariance(sigma_x: float, sigma_y: float, rotation: float) -> np.ndarray:
    turn = np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
    return turn @ np.diag([sigma_x**2, sigma_y**2]) @ turn.T


def square(size: int, sigmas: tuple[float, float, float]) -> np.ndarray:
    """Returns the squared Mahalanobis distance of each place."""
    inverse, places = np.linalg.inv(covariance(*sigmas)), grid(size)
    return np.einsum("hwi,ij,hwj->hw", places, inverse, places)


def padded(values: np.ndarray) -> np.ndarray:
    return np.pad(values / values.sum(), (kernels.SIZE - len(values)) // 2)


@pytest.mark.parametrize("size", [7, 13, 21])
@pytest.mark.parametrize("sigmas", SHAPES)
def test_gaussian_is_the_density_of_scipy(size, sigmas):
    density = stats.multivariate_normal([0, 0], covariance(*sigmas)).pdf(grid(size))
    np.testing.assert_allclose(make("gaussian", size, sigmas), padded(density), atol=1e-6)


@pytest.mark.parametrize("size", [7, 21])
@pytest.mark.parametrize("sigmas", SHAPES)
@pytest.mark.parametrize("beta", [0.5, 1.7, 4.0])
def test_generalised_gaussian_and_plateau_have_their_formulas(size, sigmas, beta):
    power = square(size, sigmas) ** beta
    ours = make("gaussian", size, sigmas, beta)
    np.testing.assert_allclose(ours, padded(np.exp(-power / 2)), atol=1e-6)
    ours = make("plateau", size, sigmas, beta)
    np.testing.assert_allclose(ours, padded(1 / (1 + power)), atol=1e-6)


@pytest.mark.parametrize("size", [7, 13, 21])
@pytest.mark.parametrize("cutoff", [np.pi / 5, np.pi / 3, 2.2, np.pi])
def test_sinc_is_the_bessel_function_of_scipy(size, cutoff):
    radius = np.hypot(*np.moveaxis(grid(size), -1, 0))
    middle = radius == 0
    values = cutoff * special.j1(cutoff * radius) / (2 * np.pi * np.where(middle, 1, radius))
    values[middle] = cutoff**2 / (4 * np.pi)
    np.testing.assert_allclose(make("sinc", size, cutoff=cutoff), padded(values), atol=1e-6)


def test_bessel_function_is_that_of_scipy_up_to_the_largest_argument():
    largest = np.pi * np.hypot(kernels.SIZE // 2, kernels.SIZE // 2)
    x = np.linspace(0, 50, 20001, dtype=np.float32)
    assert largest < x[-1]
    np.testing.assert_allclose(jax.jit(kernels.bessel_j1)(x), special.j1(x), atol=1e-6)


def test_kernels_have_sum_1_and_a_pulse_has_one_place():
    for family in kernels.FAMILIES:
        total = make(family, 9, SHAPES[1], 0.6, 2.0).sum()
        assert total == pytest.approx(1, abs=1e-6)
    assert kernels.pulse()[10, 10] == kernels.pulse().sum() == 1
    assert jnp.asarray(kernels.pulse()).dtype == jnp.float32
