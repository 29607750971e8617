"""Rounding that keeps a compiler from combining operations.

Compilers round a·b + c once or twice. Of a·b + c·d they combine either product with the sum, and
(a·b)·c may become a·(b·c). What they do depends on the rest of the program, which depends on the
number of devices. The bits of a degraded image must not.
"""

import jax
from jax import lax


def unfused(x: jax.Array) -> jax.Array:
    """Rounds float32 to 22 bits after the point, one fewer than it has.

    Use it for products, also with the inverse of a constant, that are used more than once or added
    to another product. A product with one use, in a sum with no other product, was combined with it
    in every program seen. Instead of dividing an array by a traced scalar, multiply by its inverse:
    some compiled programs do so, and some do not.
    """
    return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=22)
