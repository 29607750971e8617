"""The blur kernels of Real-ESRGAN: Gaussian, generalised Gaussian, plateau and sinc.

The formulas are those of basicsr/data/degradations.py, arXiv 2107.10833, §3.1 and §3.3. All kernels
are SIZE x SIZE; a smaller one has zeros around it, and so a size can be traced.
"""

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.degradation.unfused import unfused

SIZE = 21
FAMILIES = ("gaussian", "plateau", "sinc")
NODES = 24  # of the integral of Bessel's function; enough for arguments of up to 50
Scalar = jax.Array | float | int


def kernel(
    family: Scalar,
    size: Scalar,
    *,
    sigma_x: Scalar,
    sigma_y: Scalar,
    rotation: Scalar,
    beta: Scalar,
    cutoff: Scalar,
) -> jax.Array:
    """Returns a kernel of one family, which is chosen before filtering and not after.

    Args:
        family: Index into FAMILIES; like all arguments, it can be traced.
        size: Odd number of up to SIZE, outside of which the kernel is zero.
        sigma_x: Deviation along the first axis in pixels. Not of sinc.
        sigma_y: Deviation along the second axis. Equal ones make an isotropic kernel. Not of sinc.
        rotation: Angle of the axes in radians, from x to y. Not of sinc.
        beta: Exponent. For "gaussian" 1 is the normal distribution, others are generalised ones.
        cutoff: The frequency above which sinc lets nothing pass, in radians a pixel, up to pi.

    Returns:
        (SIZE, SIZE) float32 with sum 1.
    """
    values = jnp.stack(
        [
            gaussian(sigma_x, sigma_y, rotation, beta),
            plateau(sigma_x, sigma_y, rotation, beta),
            sinc(cutoff),
        ]
    )
    chosen = jnp.where(_distance() <= (jnp.asarray(size) - 1) / 2, values[family], 0)
    return chosen * (1 / chosen.sum())


def gaussian(sigma_x: Scalar, sigma_y: Scalar, rotation: Scalar, beta: Scalar) -> jax.Array:
    """Returns the generalised Gaussian exp(-d^beta / 2) of the scaled square distance d."""
    return jnp.exp(-0.5 * _scaled_square(sigma_x, sigma_y, rotation) ** beta)


def plateau(sigma_x: Scalar, sigma_y: Scalar, rotation: Scalar, beta: Scalar) -> jax.Array:
    """Returns 1 / (1 + d^beta) of the scaled square distance d."""
    return 1 / (1 + _scaled_square(sigma_x, sigma_y, rotation) ** beta)


def sinc(cutoff: Scalar) -> jax.Array:
    """Returns the circular low-pass filter c·J1(c·r) / (2·pi·r) of the distance r."""
    x, y = _grid()
    radius = np.hypot(x, y)
    cutoff = jnp.asarray(cutoff, jnp.float32)
    height = unfused(cutoff * bessel_j1(unfused(cutoff * radius)))
    outside = height / (2 * np.pi * np.where(radius > 0, radius, 1))
    return jnp.where(radius > 0, outside, cutoff**2 / (4 * np.pi))


def pulse() -> np.ndarray:
    """Returns the kernel that changes nothing."""
    return (_distance() == 0).astype(np.float32)


def bessel_j1(x: jax.Array) -> jax.Array:
    """Returns Bessel's function J1 within 1e-6, for arguments from 0 to 50.

    It is the mean of sin(t)·sin(x·sin(t)) over a turn. The trapezoidal rule converges faster than
    any power there. NODES points in a quarter of the turn stand for all of them.
    """
    sine = np.sin((np.arange(NODES) + 0.5) * np.pi / (2 * NODES)).astype(np.float32)
    values = jnp.sin(jnp.multiply.outer(x, sine))
    return jnp.matmul(values, sine / NODES, precision="highest")


def _scaled_square(sigma_x: Scalar, sigma_y: Scalar, rotation: Scalar) -> jax.Array:
    x, y = _grid()
    cos, sin = jnp.cos(rotation), jnp.sin(rotation)
    along_x = (unfused(cos * x) + unfused(sin * y)) * (1 / sigma_x)
    along_y = (unfused(cos * y) - unfused(sin * x)) * (1 / sigma_y)
    return unfused(along_x**2) + unfused(along_y**2)


def _distance() -> np.ndarray:
    """Returns how many rows or columns, whichever is more, each place is from the middle."""
    return np.abs(_grid()).max(axis=0)


def _grid() -> np.ndarray:
    """Returns x and y of each place, (2, SIZE, SIZE)."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - SIZE // 2
    return np.stack([x, y])
