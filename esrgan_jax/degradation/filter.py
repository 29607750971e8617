"""Filtering of an image by a kernel of its own, as `filter2D` in basicsr/utils/img_process_util.py.

XLA computes convolutions with one channel and a kernel for each image slowly: on a CPU ten times as
slowly as the matrix products here. An image is cut into blocks of half a kernel. Then each block of
the result depends on 3 x 3 blocks alone, by a matrix that is made of the kernel.
"""

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.degradation.kernels import SIZE

BLOCK = SIZE // 2
Scalar = jax.Array | int


def filter2d(image: jax.Array, kernel: jax.Array, height: Scalar, width: Scalar) -> jax.Array:
    """Correlates an image with a kernel, mirrored at its borders without the edge pixels.

    Args:
        image: (H, W, C) float32; only its first `height` rows and `width` columns are read.
        kernel: (SIZE, SIZE) float32, not turned around, as in OpenCV.
        height: From 1 to H; can be traced.
        width: From 1 to W; can be traced.

    Returns:
        (H, W, C) float32. What is outside `height` and `width` has no meaning.
    """
    rows, columns, channels = image.shape
    down, across = -(-rows // BLOCK), -(-columns // BLOCK)
    image = image[_mirrored((down + 2) * BLOCK, height)]
    image = image[:, _mirrored((across + 2) * BLOCK, width)]
    blocks = image.reshape(down + 2, BLOCK, across + 2, BLOCK, channels).transpose(4, 0, 2, 1, 3)
    blocks = blocks.reshape(channels, down + 2, across + 2, BLOCK**2)
    beside = jnp.concatenate([blocks[:, :, i : i + across] for i in range(3)], axis=-1)
    parts = [
        jnp.einsum("cyxi,io->cyxo", beside[:, i : i + down], matrix, precision="highest")
        for i, matrix in enumerate(_matrices(kernel))
    ]
    result = sum(parts[1:], parts[0]).reshape(channels, down, across, BLOCK, BLOCK)
    result = result.transpose(1, 3, 2, 4, 0).reshape(down * BLOCK, across * BLOCK, channels)
    return result[:rows, :columns]


def _mirrored(count: int, size: Scalar) -> jax.Array:
    """Returns the `count` indices from -BLOCK on, in … 2 1 | 0 1 2 … n-1 | n-2 n-3 …"""
    period = jnp.maximum(2 * (jnp.asarray(size) - 1), 1)
    index = (jnp.arange(count) - BLOCK) % period
    return jnp.minimum(index, period - index)


def _matrices(kernel: jax.Array) -> jax.Array:
    """Returns what a row of three blocks, above, at or below, adds to a block: (3, 3·B², B²)."""
    # Pixel i of three blocks counts for pixel o of the middle one by the kernel at i - o, if it is
    # in the kernel.
    index = np.arange(3 * BLOCK)[:, None] - np.arange(BLOCK) + BLOCK
    around = jnp.pad(kernel, BLOCK)
    spread = around[index][:, :, index]  # (row in, row out, column in, column out)
    spread = spread.reshape(3, BLOCK, BLOCK, 3, BLOCK, BLOCK).transpose(0, 3, 1, 4, 2, 5)
    return spread.reshape(3, 3 * BLOCK**2, BLOCK**2)
