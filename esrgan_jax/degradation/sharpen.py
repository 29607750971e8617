"""The unsharp mask of Real-ESRGAN's targets (BasicSR's `USMSharp`)."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.degradation.unfused import unfused

TAPS = 51
SIGMA = 8.0  # of OpenCV's getGaussianKernel for 51 taps: 0.3 · (50 / 2 - 1) + 0.8
WEIGHT = 0.5
THRESHOLD = 10  # levels of 255


def sharpen(image: jax.Array) -> jax.Array:
    """Adds half of what a Gaussian blur takes away, where that is more than 10 levels.

    The mask of these places is blurred as well. Beyond the borders the image is mirrored without
    its edge pixels.

    Args:
        image: (..., H, W, 3) float32 in [0, 1], sides of 26 pixels or more.

    Returns:
        The same shape, float32 in [0, 1].
    """
    image = unfused(image)  # often levels times 1/255
    detail = image - blur(image)
    mask = blur((jnp.abs(detail) * 255 > THRESHOLD).astype(jnp.float32))
    sharp = jnp.clip(image + WEIGHT * detail, 0, 1)
    return image + mask * (sharp - image)


def blur(image: jax.Array) -> jax.Array:
    """Blurs (..., H, W, C) by the Gaussian of SIGMA, as a product with a matrix for each axis."""
    rows, columns = (jnp.asarray(_matrix(side)) for side in image.shape[-3:-1])
    image = jnp.einsum("oi,...iwc->...owc", rows, image, precision="highest")
    return jnp.einsum("oi,...hic->...hoc", columns, image, precision="highest")


@lru_cache(maxsize=16)
def _matrix(side: int) -> np.ndarray:
    reach = TAPS // 2
    if side <= reach:
        raise ValueError(f"{side} pixels: a blur of {TAPS} needs {reach + 1} or more")
    offsets = np.arange(TAPS) - reach
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    index = np.abs(np.arange(side)[:, None] + offsets)
    index = np.where(index < side, index, 2 * (side - 1) - index)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], index), weights / weights.sum())
    return matrix.astype(np.float32)
