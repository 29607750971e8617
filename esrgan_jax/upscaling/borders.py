"""The borders of images, where a network's convolutions are padded.

A network pads every convolution with zeros at the edge of its input. In a batch of images of
different sizes, an image can end before its array does. So the convolutions read what the pad of
`borders` returns, and the networks need no change.
"""

from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
from flax import struct

from esrgan_jax.models.padding import padded_by

BORDERS = ("zero", "mirror", "wrap")


def borders(
    sizes: jax.Array, height: int, width: int, border: str = "zero"
) -> AbstractContextManager[None]:
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
    return padded_by(None if border == "full" else _Pad(sizes, height, width, border))


@struct.dataclass
class _Pad:
    sizes: jax.Array
    height: int = struct.field(pytree_node=False)
    width: int = struct.field(pytree_node=False)
    border: str = struct.field(pytree_node=False)

    def __call__(self, x: jax.Array, pad: int) -> tuple[jax.Array, int]:
        """Continues feature maps (N, H, W, C) by `pad` pixels, see `padded_by`."""
        rows = self.sizes[:, :1] * x.shape[1] // self.height
        columns = self.sizes[:, 1:] * x.shape[2] // self.width
        if self.border == "zero":
            return jnp.where(inside(x.shape[1], x.shape[2], rows, columns), x, 0), pad
        indices = (
            continued(jnp.arange(-pad, length + pad)[None], size, self.border)
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
