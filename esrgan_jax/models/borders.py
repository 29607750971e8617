"""Pads convolutions at the border of each image of a batch.

A network pads every convolution with zeros at the edge of its input. In a batch of images of
different sizes, an image can end before its array does. So the padding is done here, by a wrapper
around each convolution, and the network needs no change.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.module import InterceptorContext

from esrgan_jax.models.conv import Conv

BORDERS = ("zero", "mirror", "wrap")


def borders(
    sizes: jax.Array, height: int, width: int, border: str = "zero"
) -> AbstractContextManager[None]:
    """Returns a context in which convolutions are padded at the border of each image.

    Args:
        sizes: (N, 2) int, the height and width that each image of the batch fills, from the top
            left corner; multiples of the network's `size_multiple`. The input is zero beyond.
        height: Height of the network's input. `sizes` are scaled to those of feature maps.
        width: Width of the network's input.
        border: "zero" as in training. "mirror" continues every feature map with its mirror image,
            the edge pixel repeated, so that it is still a mirror image after nearest neighbour
            upsampling. "wrap" continues it with itself, for seamless textures.
    """

    def valid(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
        return sizes[:, :1] * shape[1] // height, sizes[:, 1:] * shape[2] // width

    def intercept(
        layer: Callable[..., jax.Array],
        args: tuple[jax.Array, ...],
        kwargs: dict[str, Any],
        context: InterceptorContext,
    ) -> jax.Array:
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
    """Returns the mask of the image area, (N, height, width, 1) bool; rows, columns: (N, 1) int."""
    tall, wide = jnp.arange(height)[None] < rows, jnp.arange(width)[None] < columns
    return tall[:, :, None, None] & wide[:, None, :, None]


def continued(index: jax.Array, size: jax.Array, border: str) -> jax.Array:
    """Maps positions outside of an axis to positions inside it, mirrored or wrapped.

    Args:
        index: (1, L) int, positions of any sign.
        size: (N, 1) int, the length of the axis for each image.
        border: "mirror" or "wrap".

    Returns:
        (N, L) int, from 0 to size - 1.
    """
    size = jnp.maximum(size, 1)
    if border == "wrap":
        return index % size
    index = index % (2 * size)
    return jnp.where(index < size, index, 2 * size - 1 - index)


def take(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Selects rows (N, h) and columns (N, w) of each image: (N, H, W, C) -> (N, h, w, C)."""
    return jax.vmap(lambda image, r, c: image[r][:, c])(x, rows, columns)
