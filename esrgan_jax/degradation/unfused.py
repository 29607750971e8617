"""Rounding that keeps a compiler from combining operations.

Compilers round a·b + c once or twice. Of a·b + c·d they combine either product with the sum, and
(a·b)·c becomes a·(b·c). What they do depends on the rest of the program, which depends on the
number of devices. The bits of a degraded image must not.
"""

import jax
from jax import lax


def unfused(x: jax.Array) -> jax.Array:
    """Rounds float32 to 22 bits after the point, one fewer than it has.

    It is for products (also with the inverse of a constant) that are used more than once or added
    to another product. Others are always combined with the one sum that they are in. Divide by a
    traced number by multiplying with its inverse: compilers do so as well, but not always.
    """
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=22)
