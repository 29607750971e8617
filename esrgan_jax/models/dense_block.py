"""The convolutions of a dense block, without concatenating all of its feature maps.

Each feature map is convolved with all kernels that read it, and the results are added up. On
accelerators that is one convolution with the kernels concatenated along their outputs, which fills
the matrix units better. The gradient needs the maps alone instead of every concatenation of them.
Without gradients, CPUs use Winograd's method, and concatenate up to three feature maps.
"""

from functools import reduce
from itertools import accumulate

import jax
import jax.numpy as jnp
from jax import lax

from esrgan_jax.models.conv import convolve, leaky_relu
from esrgan_jax.models.padding import Pad, current, padded, padded_by
from esrgan_jax.models.winograd import from_values, products, suits_winograd, to_values

LEAST_GROWTH = 32  # the least for which Winograd's method was measured to be faster
Arrays = list[jax.Array]


def dense_convolutions(x: jax.Array, kernels: Arrays, biases: Arrays) -> jax.Array:
    """(N, H, W, C) -> (N, H, W, O): the last of five convolutions.

    Each reads x and the features of those before it. Only reverse mode works (`jax.grad`), not
    `jax.jvp`, because of `_backward`.

    Args:
        x: The input.
        kernels: (3, 3, C + i G, G) for i from 0 to 3 and (3, 3, C + 4 G, O).
        biases: (1, 1, 1, G) four times and (1, 1, 1, O).
    """
    return _padded(current.get(), x, kernels, biases)


@jax.jit  # traced once for all dense blocks of a network
def _padded(pad: Pad | None, x: jax.Array, kernels: Arrays, biases: Arrays) -> jax.Array:
    # The pad is an argument, since `jit` would take that of the first call for those of all.
    if pad is None:  # `_backward` knows zeros alone
        return _with_gradient(x, kernels, biases)
    with padded_by(pad):
        return _result(x, kernels, biases)


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
        second = second + later[1] if len(later) == 2 else second
        result.append(jnp.concatenate([of_x + skip @ second, first, second, *later], axis=2))
    return result


def _result(x: jax.Array, kernels: Arrays, biases: Arrays) -> jax.Array:
    def plain(x: jax.Array, kernels: Arrays, biases: Arrays) -> jax.Array:
        return _forward(x, kernels, biases)[0]

    def by_winograd(x: jax.Array, kernels: Arrays, biases: Arrays) -> jax.Array:
        y, groups = x, []
        for index, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
            values = to_values(padded(leaky_relu(y) if index else x, 1)[0])
            # Groups of three maps: concatenating more costs more time and memory than adding up
            # the results of two groups.
            maps = [groups.pop(), values] if index % 3 else [values]
            groups.append([jnp.concatenate(each, axis=-1) for each in zip(*maps, strict=True)])
            ends = [*accumulate(group[0].shape[-1] for group in groups)][:-1]
            terms = map(products, groups, jnp.split(kernel, ends, axis=2))
            sums = [reduce(jnp.add, each) for each in zip(*terms, strict=True)]
            y = from_values(sums, x.shape[1]) + bias
        return y

    _, zeros = padded(x, 1)
    if zeros and suits_winograd(x, kernels[0], LEAST_GROWTH):
        return lax.platform_dependent(x, kernels, biases, cpu=by_winograd, default=plain)
    return plain(x, kernels, biases)


def _forward(x: jax.Array, kernels: Arrays, biases: Arrays) -> tuple[jax.Array, tuple[Arrays, ...]]:
    maps, sums = [x], list(biases)
    for index in range(len(kernels)):
        if index:
            maps.append(leaky_relu(sums[index - 1]))
        # On CPUs slices of a wide result cost more than wide convolutions save: up to 1.3 times.
        # New functions each time, since JAX would not trace the same one again for another pad.
        terms = lax.platform_dependent(
            maps[index],
            _readers(kernels, index),
            cpu=lambda x, parts: [convolve(x, part) for part in parts],
            default=lambda x, parts: _at_once(x, parts),
        )
        sums[index:] = map(jnp.add, sums[index:], terms)
    return sums[-1], (maps, kernels)


def _backward(saved: tuple[Arrays, ...], g: jax.Array) -> tuple[jax.Array, Arrays, Arrays]:
    maps, kernels = saved
    of_x, of_sums = g, [g]
    parts: list[Arrays] = [[] for _ in kernels]
    for index in reversed(range(len(maps))):
        _, pull_back = jax.vjp(_at_once, maps[index], _readers(kernels, index))
        of_x, of_parts = pull_back(of_sums)
        for of_kernel, part in zip(parts[index:], of_parts, strict=True):
            of_kernel.insert(0, part)
        if index:  # features have the sign of what `leaky_relu` was given
            of_sums.insert(0, jax.vjp(leaky_relu, maps[index])[1](of_x)[0])
    of_kernels = [jnp.concatenate(of_kernel, axis=2) for of_kernel in parts]
    # Adds a zero that needs the kernels' gradients. On CPUs XLA would otherwise leave these to the
    # end of the step, and keep for them what they read in all blocks.
    of_x = of_x + 0 * jnp.stack([kernel[0, 0, -1, 0] for kernel in of_kernels]).sum()
    return of_x, of_kernels, [y.sum((0, 1, 2), keepdims=True) for y in of_sums]


_with_gradient = jax.custom_vjp(_result)
_with_gradient.defvjp(_forward, _backward)


def _at_once(x: jax.Array, parts: Arrays) -> Arrays:
    """Convolves x with each of the kernels, by one convolution."""
    ends = [parts[0].shape[3] * i for i in range(1, len(parts))]
    return jnp.split(convolve(x, jnp.concatenate(parts, axis=-1)), ends, axis=-1)


def _readers(kernels: Arrays, index: int) -> Arrays:
    """Returns the parts of the kernels that read features `index`."""
    start = kernels[index - 1].shape[2] if index else 0
    return [kernel[:, :, start : kernels[index].shape[2]] for kernel in kernels[index:]]
