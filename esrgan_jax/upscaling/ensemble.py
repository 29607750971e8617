"""Self-ensemble: the eight flipped and transposed versions of tiles, and their mean."""

import itertools

import jax
import jax.numpy as jnp

from esrgan_jax.upscaling.borders import take

TURNS = list(itertools.product((False, True), repeat=3))  # rows flipped, columns, transposed


def all_versions(x: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the eight flipped and transposed versions in one batch, and their sizes."""
    inputs, input_sizes = [], []
    for rows, columns, transposed in TURNS:
        version = _flipped(x, sizes, rows, columns)
        inputs.append(version.swapaxes(1, 2) if transposed else version)
        input_sizes.append(sizes[:, ::-1] if transposed else sizes)
    return jnp.concatenate(inputs), jnp.concatenate(input_sizes)


def mean_of_versions(results: jax.Array, sizes: jax.Array) -> jax.Array:
    """Returns the mean of the eight results, flipped back; `sizes` are those of the first."""
    total = jnp.float32(0)
    parts = jnp.split(results, len(TURNS))
    for result, (rows, columns, transposed) in zip(parts, TURNS, strict=True):
        back = result.swapaxes(1, 2) if transposed else result
        total += _flipped(back, sizes, rows, columns)
    return total / len(TURNS)


def _flipped(x: jax.Array, sizes: jax.Array, rows: bool, columns: bool) -> jax.Array:
    """Flips the image area of each array, which stays at the top left."""
    indices = []
    for axis, flip in ((1, rows), (2, columns)):
        index = jnp.broadcast_to(jnp.arange(x.shape[axis]), (len(x), x.shape[axis]))
        size = sizes[:, axis - 1, None]
        indices.append(jnp.where(index < size, size - 1 - index, index) if flip else index)
    return take(x, *indices)
