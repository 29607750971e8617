"""Corrects the low frequencies of a result's colours to those of the input."""

from functools import partial

import jax
import jax.numpy as jnp

from esrgan_jax.upscaling.borders import inside

COLOR_SIGMA, COLOR_FIELD = 4.0, 12  # of the low-pass filter of `keep_color`, in LR pixels


def color_drift(lr: jax.Array, sr: jax.Array, sizes: jax.Array, scale: int) -> jax.Array:
    """Returns what to add to a result for the low frequencies of its input: (N, H, W, C)."""
    n, height, width, channels = lr.shape
    small = sr.reshape(n, height, scale, width, scale, channels).mean((2, 4))
    weight = inside(height, width, sizes[:, :1], sizes[:, 1:]).astype(jnp.float32)
    # Normalised by the image area, so that pixels beyond the border do not count.
    around = partial(blur, sigma=COLOR_SIGMA, reach=COLOR_FIELD)
    low = around((lr - small) * weight) / jnp.maximum(around(weight), 1e-6)
    return jax.image.resize(low, (*sr.shape[:3], channels), "linear")


def blur(x: jax.Array, sigma: float, reach: int) -> jax.Array:
    """Gaussian blur of (N, H, W, C), cut off at `reach` pixels, with zeros beyond the array."""
    kernel = jnp.exp(-((jnp.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum()
    planes = jnp.moveaxis(x, -1, 0).reshape(-1, *x.shape[1:3], 1)
    tall, wide = (reach, reach), (0, 0)
    for shape, pads in (((-1, 1, 1, 1), (tall, wide)), ((1, -1, 1, 1), (wide, tall))):
        planes = jax.lax.conv_general_dilated(
            planes,
            kernel.reshape(shape),
            (1, 1),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",
        )
    return jnp.moveaxis(planes.reshape(x.shape[-1], *x.shape[:3]), 0, -1)
