"""Gaussian and Poisson noise, as `add_*_noise_pt` in basicsr/data/degradations.py adds them.

Both take the same normal numbers for the same key, so that XLA computes them once for a function
that chooses between the two.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtr

from esrgan_jax.degradation.unfused import unfused

GRAY = (0.2989, 0.587, 0.114)  # torchvision's `rgb_to_grayscale`
FEW = 4  # below this mean, Poisson numbers are found by adding up TERMS probabilities
TERMS = 20
Scalar = jax.Array | float


def gaussian_noise(key: jax.Array, image: jax.Array, sigma: Scalar, gray: jax.Array) -> jax.Array:
    """Adds normal noise and clips.

    Args:
        key: A random key.
        image: (H, W, 3) float32 in [0, 1].
        sigma: Standard deviation, 1 being white; can be traced.
        gray: Whether all channels get the same noise; can be traced.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    return jnp.clip(image + sigma * _normal(key, image.shape, gray), 0, 1)


def poisson_noise(key: jax.Array, image: jax.Array, scale: Scalar, gray: jax.Array) -> jax.Array:
    """Adds the noise of counting photons and clips.

    A sample of value x is replaced by a Poisson number of mean n·x, divided by n. n is the number
    of different levels in the image, rounded up to a power of two. The difference is multiplied by
    `scale`.

    Args:
        key: A random key.
        image: (H, W, 3) float32 in [0, 1].
        scale: Factor of the noise; can be traced.
        gray: Whether all channels get the noise of the gray image; can be traced.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    red, green, blue = (unfused(image[..., i : i + 1] * share) for i, share in enumerate(GRAY))
    level = jnp.round(jnp.clip(jnp.where(gray, red + green + blue, image), 0, 1) * 255)
    bits = 32 - lax.clz(distinct(level) - 1)  # exact on any device, which log2 is not
    count = (jnp.uint32(1) << bits).astype(jnp.float32)
    light = unfused(level / 255)
    drawn = poisson(_normal(key, image.shape, gray), light * count) / count
    return jnp.clip(image + scale * (drawn - light), 0, 1)


def distinct(level: jax.Array) -> jax.Array:
    """Returns how many different whole numbers of 0 to 255 an array has."""
    number = level.astype(jnp.uint32).ravel()
    bit = jnp.uint32(1) << (number % 32)
    # One bit for each level in eight words. Scattering into 256 places would be slow on TPUs.
    words = [
        lax.reduce(jnp.where(number // 32 == word, bit, 0), jnp.uint32(0), lax.bitwise_or, (0,))
        for word in range(8)
    ]
    return lax.population_count(jnp.stack(words)).sum()


def poisson(normal: jax.Array, mean: jax.Array) -> jax.Array:
    """Turns normal numbers into Poisson numbers, in a fixed number of operations.

    `jax.random.poisson` repeats its loop until the last sample of a batch is accepted. Here the
    distribution function of the normal number is inverted: exactly below a mean of FEW, and above
    it by the normal asymptotic expansion (M. Giles, Algorithm 955, ACM TOMS 42, 2016, Q_N2), which
    is one off for at most two samples in a thousand.

    Args:
        normal: Standard normal numbers.
        mean: Of the same shape, 0 or more.

    Returns:
        Whole numbers of 0 or more, float32, of the same shape.
    """
    share, few = ndtr(normal), jnp.minimum(mean, FEW)
    term = total = jnp.exp(-few)
    small = jnp.zeros_like(mean)
    for number in range(1, TERMS + 1):
        small += share > total
        # `abs` changes nothing, as no term is negative, but keeps the product apart from the sum.
        # It is faster than `unfused`.
        term = jnp.abs(term * few / number)
        total = total + term
    large = jnp.maximum(mean, FEW)
    root, square = jnp.sqrt(large), unfused(normal**2)
    near = large + root * normal + (2 + square) / 6
    near -= normal * (2 + square) / (72 * root)
    near += (-8 / 405 + 7 / 810 * square + square**2 / 270) / large
    return jnp.where(mean < FEW, small, jnp.maximum(jnp.floor(near), 0))


def _normal(key: jax.Array, shape: tuple[int, ...], gray: jax.Array) -> jax.Array:
    normal = unfused(jax.random.normal(key, shape))
    return jnp.where(gray, normal[..., :1], normal)
