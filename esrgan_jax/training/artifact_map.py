"""The artifact map of LDL (Liang et al. 2022, arXiv 2203.09195), as in BasicSR's `ldl_opt`."""

import jax
import jax.numpy as jnp
from jax import lax

WINDOW = 7
SMALLEST = 1e-12  # of a variance, since the fifth root has an infinite gradient at 0


def artifact_map(sr: jax.Array, hr: jax.Array, averaged: jax.Array) -> jax.Array:
    """Returns a weight for each pixel of SR, large where it seems to be an artifact.

    The residual is the sum of |HR - SR| over channels. The weight is its variance in a window of
    7x7, mirrored at the borders, times the fifth root of its variance in the whole image; both
    variances are unbiased. It is 0 where SR is nearer to HR than the averaged generator's is.

    Args:
        sr: (N, H, W, C) in [0, 1], H and W at least 4, of the generator in training.
        hr: The same of the targets.
        averaged: The same of the generator with averaged parameters (EMA).

    Returns:
        (N, H, W, 1) float32. Its gradient with respect to `sr` is not stopped, as in BasicSR.
    """
    residual, of_averaged = (
        jnp.sum(jnp.abs(hr.astype(jnp.float32) - image), axis=-1, keepdims=True)
        for image in (sr, averaged)
    )
    whole = jnp.var(residual, (1, 2, 3), keepdims=True, ddof=1)
    weight = jnp.maximum(whole, SMALLEST) ** (1 / 5) * _local_variance(residual)
    return jnp.where(residual < of_averaged, 0.0, weight)


def _local_variance(image: jax.Array) -> jax.Array:
    edge, count = WINDOW // 2, WINDOW**2
    # Without the mean of the image, which would cancel in the difference below.
    image -= lax.stop_gradient(jnp.mean(image, (1, 2, 3), keepdims=True))
    padded = jnp.pad(image, ((0, 0), (edge, edge), (edge, edge), (0, 0)), mode="reflect")

    def sums(x: jax.Array) -> jax.Array:
        return lax.reduce_window(x, 0.0, lax.add, (1, WINDOW, WINDOW, 1), (1, 1, 1, 1), "VALID")

    variance = (sums(padded**2) - sums(padded) ** 2 / count) / (count - 1)
    return jnp.maximum(variance, 0)  # where rounding makes it negative
