"""Pads convolutions at the border of each image of a batch.

A network pads every convolution with zeros at the edge of its input. In a batch of images of
different sizes, an image can end before its array does. So `conv.convolve` asks `bordered` for its
padding, and the networks need no change.
"""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

BORDERS = ("zero", "mirror", "wrap")

_Border = tuple[int, int, str]  # height, width and border of a context `borders`
_current: ContextVar[tuple[jax.Array | None, _Border]] = ContextVar(
    "_current", default=(None, (0, 0, "full"))
)


@contextmanager
def borders(
    sizes: jax.Array | None, height: int, width: int, border: str = "zero"
) -> Generator[None]:
    """A context in which convolutions are padded at the border of each image.

    Args:
        sizes: (N, 2) int, the height and width that each image of the batch fills, from the top
            left corner; multiples of the network's `size_multiple`. The input is zero beyond.
        height: Height of the network's input. `sizes` are scaled to those of feature maps.
        width: Width of the network's input.
        border: "zero" as in training. "mirror" continues every feature map with its mirror image,
            the edge pixel repeated, so that it is still a mirror image after nearest neighbour
            upsampling. "wrap" continues it with itself, for seamless textures. "full" is "zero" for
            images that all fill their arrays: nothing is masked, which saves time.
    """
    token = _current.set((None if border == "full" else sizes, (height, width, border)))
    try:
        yield
    finally:
        _current.reset(token)


def has_borders() -> bool:
    """Returns whether a context `borders` is active."""
    return _current.get()[0] is not None


def traced_once(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Jits a function that convolves: calls with equal shapes and the same borders are traced once.

    `jax.jit` alone would take the borders of the first call for those of all.
    """

    @functools.partial(jax.jit, static_argnums=1)
    def jitted(sizes: jax.Array | None, border: _Border, *args: Any) -> jax.Array:
        with borders(sizes, *border):
            return function(*args)

    return functools.wraps(function)(lambda *args: jitted(*_current.get(), *args))


def bordered(x: jax.Array, pad: int) -> tuple[jax.Array, int]:
    """Continues feature maps (N, H, W, C) by up to `pad` pixels as the context `borders` says.

    Returns:
        The maps that a convolution reads, and how many zeros it adds at each edge.
    """
    sizes, (height, width, border) = _current.get()
    if sizes is None or pad == 0:
        return x, pad
    rows, columns = sizes[:, :1] * x.shape[1] // height, sizes[:, 1:] * x.shape[2] // width
    if border == "zero":
        return jnp.where(inside(x.shape[1], x.shape[2], rows, columns), x, 0), pad
    indices = (
        continued(jnp.arange(-pad, length + pad)[None], size, border)
        for length, size in zip(x.shape[1:3], (rows, columns), strict=True)
    )
    return take(x, *indices), 0


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
