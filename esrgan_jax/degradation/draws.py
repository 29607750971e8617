"""The random choices of a degradation, apart from what they do to an image.

The distributions are those of realesrgan/data/realesrgan_dataset.py (blurs) and
realesrgan/models/realesrgan_model.py (all else) in xinntao/Real-ESRGAN.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.degradation import kernels
from esrgan_jax.degradation.resize import MODES
from esrgan_jax.degradation.settings import SMALLEST, RealESRGAN
from esrgan_jax.degradation.unfused import unfused

LARGE = 13  # kernels from this size on may have the lower cutoff
CUTOFF, LOW_CUTOFF = np.pi / 3, np.pi / 5
SINC = kernels.FAMILIES.index("sinc")


class Blur(NamedTuple):
    """The arguments of `kernels.kernel`, as scalars on the device."""

    family: jax.Array
    size: jax.Array
    sigma_x: jax.Array
    sigma_y: jax.Array
    rotation: jax.Array
    beta: jax.Array
    cutoff: jax.Array


class Order(NamedTuple):
    """What is drawn for one order; all are scalars on the device.

    Attributes:
        blur: The kernel.
        blurred: Whether it is used.
        scale: Size after resizing, 1 being that of HR and in the second order that of LR.
        mode: Index into `resize.MODES`.
        gaussian: Whether the noise is Gaussian, and not Poisson noise.
        noise: Its deviation, 1 being white; of Poisson noise the factor.
        gray: Whether all channels have the same noise.
        quality: Of JPEG.
    """

    blur: Blur
    blurred: jax.Array
    scale: jax.Array
    mode: jax.Array
    gaussian: jax.Array
    noise: jax.Array
    gray: jax.Array
    quality: jax.Array


class Draws(NamedTuple):
    """What is drawn for one image.

    Attributes:
        first: The first order, which is always blurred.
        second: The second order.
        sinc: The last filter, a sinc.
        filtered: Whether it is used.
        mode: Index into `resize.MODES`, for the resize to the size of LR.
        jpeg_last: Whether JPEG comes after that resize and filter, and not before.
    """

    first: Order
    second: Order
    sinc: Blur
    filtered: jax.Array
    mode: jax.Array
    jpeg_last: jax.Array


def draw(key: jax.Array, settings: RealESRGAN) -> Draws:
    """Draws all parameters of the degradation of one image."""
    first, second, last = jax.random.split(key, 3)
    size, cutoff, filtered, mode, jpeg_last = jax.random.uniform(last, (5,))
    one = jnp.ones(())
    return Draws(
        first=_order(first, settings, "", 1),
        second=_order(second, settings, "2", settings.second_blur_prob),
        sinc=Blur(
            family=jnp.asarray(SINC),
            size=_size(size, kernels.SIZE),
            sigma_x=one,
            sigma_y=one,
            rotation=one,
            beta=one,
            cutoff=_between(cutoff, (CUTOFF, np.pi)),
        ),
        filtered=filtered < settings.final_sinc_prob,
        mode=_equally(mode, len(MODES)),
        jpeg_last=jpeg_last < 0.5,
    )


def _order(key: jax.Array, settings: RealESRGAN, suffix: str, blur_prob: float) -> Order:
    def of(name: str) -> Any:
        return getattr(settings, name + suffix)

    blur_key, key = jax.random.split(key)
    blurred, way, scale, mode, gaussian, noise, gray, quality = jax.random.uniform(key, (8,))
    least, most = of("resize_range")
    scales = jnp.stack([_between(scale, (1, most)), _between(scale, (least, 1)), jnp.ones(())])
    is_gaussian = gaussian < of("gaussian_noise_prob")
    deviation = _between(noise, of("noise_range")) / 255
    return Order(
        blur=_blur(blur_key, of),
        blurred=blurred < blur_prob,
        scale=scales[_chosen(way, of("resize_prob"))],
        mode=_equally(mode, len(MODES)),
        gaussian=is_gaussian,
        noise=jnp.where(is_gaussian, deviation, _between(noise, of("poisson_scale_range"))),
        gray=gray < of("gray_noise_prob"),
        quality=_between(quality, of("jpeg_range")),
    )


def _blur(key: jax.Array, of: Callable[[str], Any]) -> Blur:
    kinds: tuple[str, ...] = of("kernel_list")
    is_sinc, kind, size, cutoff, *rest = jax.random.uniform(key, (9,))
    sigma_x, sigma_y, rotation, side, beta = rest
    is_sinc, kind = is_sinc < of("sinc_prob"), _chosen(kind, of("kernel_prob"))

    def where(word: str) -> jax.Array:
        return jnp.array([word in name for name in kinds])[kind]

    size = _size(size, of("blur_kernel_size"))
    sigma_x, sigma_y = (_between(sigma, of("blur_sigma")) for sigma in (sigma_x, sigma_y))
    (least, most), (least_plateau, most_plateau) = of("betag_range"), of("betap_range")
    least = jnp.where(where("plateau"), least_plateau, least)
    most = jnp.where(where("plateau"), most_plateau, most)
    # Half of the exponents are below 1, whatever the range. Of the published (1, 2) they are 1.
    beta = jnp.where(side < 0.5, _between(beta, (least, 1)), _between(beta, (1, most)))
    return Blur(
        family=jnp.where(is_sinc, SINC, where("plateau").astype(jnp.int32)),
        size=size,
        sigma_x=sigma_x,
        sigma_y=jnp.where(where("aniso"), sigma_y, sigma_x),
        rotation=_between(rotation, (-np.pi, np.pi)),
        beta=jnp.where(where("generalized") | where("plateau"), beta, 1),
        cutoff=_between(cutoff, (jnp.where(size < LARGE, CUTOFF, LOW_CUTOFF), np.pi)),
    )


def _size(number: jax.Array, largest: int) -> jax.Array:
    """Returns an odd number from SMALLEST to `largest`, all equally likely."""
    return SMALLEST + 2 * _equally(number, (largest - SMALLEST) // 2 + 1)


# All of these turn a uniform number of [0, 1) into another distribution.


def _between(number: jax.Array, bounds: tuple[Any, Any]) -> jax.Array:
    return bounds[0] + unfused(number * (bounds[1] - bounds[0]))


def _equally(number: jax.Array, count: int) -> jax.Array:
    return (number * count).astype(jnp.int32)


def _chosen(number: jax.Array, shares: Sequence[float]) -> jax.Array:
    ends = np.cumsum(shares) / np.sum(shares)
    return sum((number >= end for end in ends[:-1]), jnp.zeros((), jnp.int32))
