"""Controls what convolutions see beyond the edge of an image inside a tile.

A network pads every convolution with zeros at the edge of its input. Where images of many sizes
lie in arrays of one shape, that edge is inside the array, at a place that differs from image to
image; so the padding is done here, around each convolution, without the network knowing.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from esrgan_jax.models.conv import Conv

BORDERS = ("zero", "mirror", "wrap")


def borders(
    sizes: jax.Array, height: int, width: int, border: str = "zero"
) -> AbstractContextManager[Any]:
    """A context in which networks see the border of each image of a batch.

    Args:
        sizes: (N, 2) int, the height and width that each image of the batch fills, from the top
            left corner; multiples of what the network folds. The input is zero beyond.
        height: Of the network's input; sizes of feature maps are taken in proportion.
        width: Likewise.
        border: "zero" as trained; "mirror" continues every feature map with its mirror image (the
            edge twice, so it stays a mirror through nearest neighbour enlargement), "wrap" with
            itself, for textures that are tiled.
    """

    def valid(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        return sizes[:, :1] * shape[1] // height, sizes[:, 1:] * shape[2] // width

    def intercept(layer: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, Conv | nn.BatchNorm):
            return layer(*args, **kwargs)
        if border == "zero":
            y = layer(*args, **kwargs)
            rows, columns = valid(y.shape)
            return jnp.where(inside(y.shape[1], y.shape[2], rows, columns), y, 0)
        if not isinstance(module, Conv) or module.size == 1:
            return layer(*args, **kwargs)
        (x,) = args
        pad = (module.size - 1) // 2
        indices = (
            continued(jnp.arange(-pad, length + pad)[None], size, border)
            for length, size in zip(x.shape[1:3], valid(x.shape), strict=True)
        )
        return layer(take(x, *indices))[:, pad:-pad, pad:-pad]

    return nn.intercept_methods(intercept)


def inside(height: int, width: int, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """A mask of the image area, (N, height, width, 1) bool, from rows and columns (N, 1)."""
    tall, wide = jnp.arange(height)[None] < rows, jnp.arange(width)[None] < columns
    return tall[:, :, None, None] & wide[:, None, :, None]


def continued(index: jax.Array, size: jax.Array, border: str) -> jax.Array:
    """Maps positions beyond an axis of `size` into it, mirrored or wrapped.

    Args:
        index: (1, L) int.
        size: (N, 1) int.
        border: "mirror" or "wrap".

    Returns:
        (N, L).
    """
    size = jnp.maximum(size, 1)
    if border == "wrap":
        return index % size
    index = index % (2 * size)
    return jnp.where(index < size, index, 2 * size - 1 - index)


def take(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """x[n, rows[n]][:, columns[n]] of (N, H, W, C), with rows and columns (N, h) and (N, w)."""
    return jax.vmap(lambda image, r, c: image[r][:, c])(x, rows, columns)
