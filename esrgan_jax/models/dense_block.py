"""The convolutions of a dense block, without concatenating its feature maps.

Each feature map is convolved with all kernels that read it, and the results are added up. On
accelerators that is one convolution with the kernels concatenated along their outputs, which fills
the matrix units better. The gradient needs the maps alone instead of every concatenation of them.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from esrgan_jax.models.borders import has_borders, traced_once
from esrgan_jax.models.conv import convolve, input_gradient, kernel_gradient, leaky_relu

Saved = tuple[list[jax.Array], list[jax.Array], jax.Array | None]


@traced_once  # for all dense blocks of a network
def dense_convolutions(
    x: jax.Array,
    kernels: list[jax.Array],
    biases: list[jax.Array],
    skip: jax.Array | None = None,
) -> jax.Array:
    """Computes the last of five convolutions; each reads x and the features of those before it.

    Only reverse mode works (`jax.grad`), not `jax.jvp`, because of `_backward`.

    Args:
        x: (N, H, W, C).
        kernels: (3, 3, C + i G, G) for i from 0 to 3 and (3, 3, C + 4 G, O).
        biases: (1, 1, 1, G) four times and (1, 1, 1, O).
        skip: ESRGAN+'s 1x1 kernel (1, 1, C, G): its product with x is added to the second
            features, and their sum to the fourth. None for ESRGAN.

    Returns:
        (N, H, W, O).
    """
    if has_borders():  # `_backward` is for zeros at the edge of the array
        return _forward(x, kernels, biases, skip)[0]
    return _with_gradient(x, kernels, biases, skip)


def _forward(
    x: jax.Array, kernels: list[jax.Array], biases: list[jax.Array], skip: jax.Array | None
) -> tuple[jax.Array, Saved]:
    maps, read, sums = [x], [x], list(biases)
    for index in range(len(kernels)):
        if index:
            maps.append(leaky_relu(sums[index - 1]))
            read.append(_add_residual(maps[-1], read, skip))
        parts = _convolve_for_all(read[-1], *_readers(kernels, index))
        sums[index:] = map(jnp.add, sums[index:], parts)
    return sums[-1], (maps, kernels, skip)


def _backward(
    saved: Saved, g: jax.Array
) -> tuple[jax.Array, list[jax.Array], list[jax.Array], jax.Array | None]:
    maps, kernels, skip = saved
    read, from_read = jax.vjp(_read, maps, skip)
    of_read, of_sums, of_parts = [jnp.zeros_like(x) for x in maps], [g], list[list[jax.Array]]()
    for index in reversed(range(len(maps))):
        readers = _readers(kernels, index)
        kernel, of_sum = jnp.concatenate(readers, axis=-1), jnp.concatenate(of_sums, axis=-1)
        of_parts.insert(0, _split(kernel_gradient(read[index], kernel, of_sum), readers))
        of_read[index] = input_gradient(read[index], kernel, of_sum)
        if index:  # features have the sign of what `leaky_relu` was given
            of_map = from_read(of_read)[0][index]
            of_sums.insert(0, jax.vjp(leaky_relu, maps[index])[1](of_map)[0])
    (of_x, *_), of_skip = from_read(of_read)
    of_kernels = [
        jnp.concatenate([of_parts[i][reader - i] for i in range(reader + 1)], axis=2)
        for reader in range(len(kernels))
    ]
    return of_x, of_kernels, [y.sum((0, 1, 2), keepdims=True) for y in of_sums], of_skip


_with_gradient = jax.custom_vjp(lambda *args: _forward(*args)[0])
_with_gradient.defvjp(_forward, _backward)


def _read(maps: list[jax.Array], skip: jax.Array | None) -> list[jax.Array]:
    """Returns what each convolution reads besides the inputs of those before it."""
    read = maps[:1]
    for features in maps[1:]:
        read.append(_add_residual(features, read, skip))
    return read


def _add_residual(features: jax.Array, read: list[jax.Array], skip: jax.Array | None) -> jax.Array:
    """Adds ESRGAN+'s residuals to the second and the fourth features."""
    if skip is not None and len(read) == 2:
        return features + convolve(read[0], skip)
    if skip is not None and len(read) == 4:
        return features + read[2]
    return features


def _convolve_for_all(x: jax.Array, *readers: jax.Array) -> list[jax.Array]:
    """Convolves features with each of the kernels that read them."""

    def at_once(x: jax.Array, *readers: jax.Array) -> list[jax.Array]:
        return _split(convolve(x, jnp.concatenate(readers, axis=-1)), readers)

    def one_by_one(x: jax.Array, *readers: jax.Array) -> list[jax.Array]:
        return [convolve(x, reader) for reader in readers]

    # On CPUs slices of a wide result cost more than wide convolutions save: up to 1.3 times.
    return lax.platform_dependent(x, *readers, cpu=one_by_one, default=at_once)


def _readers(kernels: list[jax.Array], index: int) -> list[jax.Array]:
    """Returns the parts of the kernels that read features `index`."""
    stop = kernels[index].shape[2]
    start = kernels[index - 1].shape[2] if index else 0
    return [kernel[:, :, start:stop] for kernel in kernels[index:]]


def _split(x: jax.Array, kernels: Sequence[jax.Array]) -> list[jax.Array]:
    """Splits the outputs of concatenated kernels."""
    ends = itertools.accumulate(kernel.shape[-1] for kernel in kernels)
    return jnp.split(x, list(ends)[:-1], axis=-1)
