"""Multi-scale structural similarity (Wang, Simoncelli and Bovik 2003)."""

import jax
import jax.numpy as jnp
import numpy as np

WINDOW, SIGMA = 11, 1.5
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
C1, C2 = 0.01**2, 0.03**2
SMALLEST = 1e-6  # powers of negative numbers are NaN, and that of 0 has an infinite gradient


def ms_ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns the mean MS-SSIM of two batches of images; 1 for equal ones.

    Each scale is half as large as the one before, by means of 2x2 pixels. Windows are Gaussian and
    lie inside the image. Images of 176 pixels or more have all five scales. Smaller ones have as
    many as the window fits into, with weights that are divided by their sum.

    Args:
        a, b: (N, H, W, C) in [0, 1], H and W at least WINDOW. Each channel is compared by itself.

    Returns:
        A float32, at most 1. The similarity of a scale counts as SMALLEST if it is lower.
    """
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    scales = min(len(SCALE_WEIGHTS), (min(a.shape[1:3]) // WINDOW).bit_length())
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    result = jnp.ones(())
    for scale, weight in enumerate(weights, 1):
        ssim, structure = _similarities(a, b)
        similarity = ssim if scale == scales else structure
        result *= jnp.maximum(similarity, SMALLEST) ** weight
        a, b = _halved(a), _halved(b)
    return jnp.mean(result)


def _similarities(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns SSIM and its factor of contrast and structure, each (N, C)."""
    maps = jnp.stack([a, b, a * a, b * b, a * b])
    rows, columns = _windows(a.shape[1]), _windows(a.shape[2])
    # Exact products, since variances are differences. XLA's convolutions of single channels are
    # slow on CPUs.
    means = jnp.einsum("ph,mnhwc,qw->mnpqc", rows, maps, columns, precision="highest")
    mean_a, mean_b, square_a, square_b, product = means
    squares = mean_a**2 + mean_b**2
    structure = (2 * (product - mean_a * mean_b) + C2) / (square_a + square_b - squares + C2)
    luminance = (2 * mean_a * mean_b + C1) / (squares + C1)
    return jnp.mean(luminance * structure, (1, 2)), jnp.mean(structure, (1, 2))


def _windows(size: int) -> np.ndarray:
    """Returns the Gaussian window at each place of a line where it fits: (places, size)."""
    offset = np.arange(size) - np.arange(size - WINDOW + 1)[:, None] - WINDOW // 2
    window = np.where(abs(offset) <= WINDOW // 2, np.exp(-(offset**2) / (2 * SIGMA**2)), 0)
    return (window / window.sum(1, keepdims=True)).astype(np.float32)


def _halved(image: jax.Array) -> jax.Array:
    """Returns the means of 2x2 pixels; the last row or column of an odd number is left out."""
    count, height, width, channels = image.shape
    image = image[:, : height // 2 * 2, : width // 2 * 2]
    blocks = image.reshape(count, height // 2, 2, width // 2, 2, channels)
    return jnp.mean(blocks, (2, 4))
