"""Winograd's method: 3x3 convolutions with half the multiplications, for float32 on CPUs.

It is F(4, 3) of Lavin and Gray (arXiv 1509.09308, §4.1), along the rows alone. The rows of input
and kernel are the coefficients of two polynomials. Their product is computed from its values at
five points and at infinity: six rows of the input give four of the result. So six convolutions with
kernels of 1x3, each on a quarter of the rows, take the place of one with a kernel of 3x3.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

ROWS = 4  # of the result, made from ROWS + 2 rows of the input
# With these points rounding errors are 1.3 times those of a direct convolution; with the usual 0,
# 1, -1, 2 and -2 they are twice those.
_POINTS = np.array([0, 2 / 3, -2 / 3, 3 / 2, -3 / 2])
_others = [np.delete(_POINTS, index) for index in range(len(_POINTS))]
_OF_INPUT = np.array([[*np.poly(x)[::-1], 0] for x in _others] + [np.poly(_POINTS)[::-1]])
_OF_KERNEL = np.array(
    [x ** np.arange(3) / np.prod(x - y) for x, y in zip(_POINTS, _others, strict=True)]
    + [np.array([0, 0, 1])]
)
_OF_RESULT = np.vstack([_POINTS[:, None] ** np.arange(ROWS), [0, 0, 0, 1]]).T

Values = list[jax.Array]  # at the five points and at infinity


def to_values(x: jax.Array) -> Values:
    """(N, H, W, C), zero beyond its edges -> six (N, T, W, C), T = ceil(H / 4)."""
    x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % ROWS), (0, 0), (0, 0)))
    rows = x.reshape(len(x), -1, ROWS, *x.shape[2:])
    above = jnp.pad(rows[:, :-1, -1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    below = jnp.pad(rows[:, 1:, 0], ((0, 0), (0, 1), (0, 0), (0, 0)))
    return _combined(_OF_INPUT, [above, *(rows[:, :, i] for i in range(ROWS)), below])


def kernel_values(kernel: jax.Array) -> Values:
    """(3, 3, C, O) -> six kernels (1, 3, C, O)."""
    return _combined(_OF_KERNEL, list(jnp.split(kernel, 3)))


def products(values: Values, kernel: jax.Array) -> Values:
    """Convolves six (N, T, W, C) with the values of a kernel (3, 3, C, O): six (N, T, W, O)."""
    names = ("NHWC", "HWIO", "NHWC")
    return [
        lax.conv_general_dilated(x, k, (1, 1), ((0, 0), (1, 1)), dimension_numbers=names)
        for x, k in zip(values, kernel_values(kernel), strict=True)
    ]


def from_values(values: Values, height: int) -> jax.Array:
    """Six (N, T, W, O) -> (N, height, W, O)."""
    rows = jnp.stack(_combined(_OF_RESULT, values), axis=2)
    return rows.reshape(len(rows), -1, *rows.shape[3:])[:, :height]


def suits_winograd(x: jax.Array, kernel: jax.Array, channels: int) -> bool:
    """Returns whether the method can be faster: float32, a known size, `channels` or more."""
    known = all(isinstance(side, int) for side in x.shape)
    return known and x.dtype == jnp.float32 and min(kernel.shape[2:]) >= channels


def convolve_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves (N, H, W, C) with a kernel (3, 3, C, O), padded with a zero on each side."""
    return from_values(products(to_values(x), kernel), x.shape[1])


def _combined(factors: np.ndarray, terms: Values) -> Values:
    """Returns the sums Σ factor · term, one for each row of `factors`."""
    pairs = [[(f, term) for f, term in zip(row, terms, strict=True) if f] for row in factors]
    each = [[term if f == 1 else float(f) * term for f, term in row] for row in pairs]
    return [sum(row[1:], row[0]) for row in each]
