"""The convolutions of a dense block, without concatenating its feature maps.

Each feature map is convolved with all kernels that read it, and the results are added up. On
accelerators that is one convolution with the kernels concatenated along their outputs, which fills
the matrix units better. The gradient needs the maps alone instead of every concatenation of them.
"""

import jax
import jax.numpy as jnp
from jax import lax

from esrgan_jax.models.conv import convolve, leaky_relu
from esrgan_jax.models.padding import only_zeros, traced_once

Arrays = list[jax.Array]


@traced_once  # for all dense blocks of a network
def dense_convolutions(x: jax.Array, kernels: Arrays, biases: Arrays) -> jax.Array:
    """Computes the last of five convolutions; each reads x and the features of those before it.

    Only reverse mode works (`jax.grad`), not `jax.jvp`, because of `_backward`.

    Args:
        x: (N, H, W, C).
        kernels: (3, 3, C + i G, G) for i from 0 to 3 and (3, 3, C + 4 G, O).
        biases: (1, 1, 1, G) four times and (1, 1, 1, O).

    Returns:
        (N, H, W, O).
    """
    if only_zeros():  # as `_backward` has it
        return _with_gradient(x, kernels, biases)
    return _forward(x, kernels, biases)[0]


def with_residuals(kernels: Arrays, skip: jax.Array) -> Arrays:
    """Adds ESRGAN+'s residuals to the kernels of a dense block.

    The product of x with `skip`, a 1x1 kernel (1, 1, C, G), is added to the second features, and
    their sum to the fourth. Both are linear, so kernels that read the sums can read their terms.
    """
    inputs, growth = skip.shape[2:]
    result = kernels[:2]
    for kernel in kernels[2:]:
        starts = list(range(inputs, kernel.shape[2], growth))
        of_x, first, second, *later = jnp.split(kernel, starts, axis=2)
        if len(later) == 2:
            second += later[1]
        result.append(jnp.concatenate([of_x + skip @ second, first, second, *later], axis=2))
    return result


def _forward(x: jax.Array, kernels: Arrays, biases: Arrays) -> tuple[jax.Array, tuple[Arrays, ...]]:
    maps, sums = [x], list(biases)
    for index in range(len(kernels)):
        if index:
            maps.append(leaky_relu(sums[index - 1]))
        sums[index:] = map(jnp.add, sums[index:], _convolve_for_all(maps[index], kernels, index))
    return sums[-1], (maps, kernels)


def _backward(saved: tuple[Arrays, ...], g: jax.Array) -> tuple[jax.Array, Arrays, Arrays]:
    maps, kernels = saved
    of_x, of_kernels, of_sums = g, [jnp.zeros_like(kernel) for kernel in kernels], [g]
    for index in reversed(range(len(maps))):
        _, pull_back = jax.vjp(lambda x, k, i=index: _convolve_wide(x, k, i), maps[index], kernels)
        of_x, of_parts = pull_back(jnp.concatenate(of_sums, axis=-1))
        of_kernels = jax.tree.map(jnp.add, of_kernels, of_parts)
        if index:  # features have the sign of what `leaky_relu` was given
            of_sums.insert(0, jax.vjp(leaky_relu, maps[index])[1](of_x)[0])
    return of_x, of_kernels, [y.sum((0, 1, 2), keepdims=True) for y in of_sums]


_with_gradient = jax.custom_vjp(lambda *args: _forward(*args)[0])
_with_gradient.defvjp(_forward, _backward)


def _convolve_for_all(x: jax.Array, kernels: Arrays, index: int) -> Arrays:
    """Convolves features `index` with each of the kernels that read them."""

    def at_once(x: jax.Array, kernels: Arrays) -> Arrays:
        growth = kernels[0].shape[3]
        wide = _convolve_wide(x, kernels, index)
        return jnp.split(wide, [growth * i for i in range(1, len(kernels) - index)], axis=-1)

    def one_by_one(x: jax.Array, kernels: Arrays) -> Arrays:
        return [convolve(x, part) for part in _readers(kernels, index)]

    # On CPUs slices of a wide result cost more than wide convolutions save: up to 1.3 times.
    return lax.platform_dependent(x, kernels, cpu=one_by_one, default=at_once)


def _convolve_wide(x: jax.Array, kernels: Arrays, index: int) -> jax.Array:
    """Convolves features `index` with the kernels that read them, concatenated."""
    return convolve(x, jnp.concatenate(_readers(kernels, index), axis=-1))


def _readers(kernels: Arrays, index: int) -> Arrays:
    """Returns the parts of the kernels that read features `index`."""
    stop = kernels[index].shape[2]
    start = kernels[index - 1].shape[2] if index else 0
    return [kernel[:, :, start:stop] for kernel in kernels[index:]]
