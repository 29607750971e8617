"""Real-ESRGAN's random degradation of first and second order (arXiv 2107.10833, §3), on the device.

The order of the operations is that of `feed_data` in realesrgan/models/realesrgan_model.py. An
image has all its parameters to itself, where that code has sizes and the order in common for a
batch. Two more things differ. An image that is resized keeps its borders in place: torch's
`F.interpolate` with a factor cuts off a part of a pixel, which moves LR against HR by up to that.
And JPEG is libjpeg's.
"""

import jax
import jax.numpy as jnp
from jax import lax

from esrgan_jax import imresize
from esrgan_jax.degradation import kernels
from esrgan_jax.degradation.draws import Blur, Draws, Order, draw
from esrgan_jax.degradation.filter import filter2d
from esrgan_jax.degradation.jpeg import jpeg
from esrgan_jax.degradation.noise import gaussian_noise, poisson_noise
from esrgan_jax.degradation.resize import resize
from esrgan_jax.degradation.settings import RealESRGAN

BLOCK = 16  # of JPEG with 4:2:0
Size = tuple[jax.Array | int, jax.Array | int]  # height and width, on the device
PUBLISHED = RealESRGAN()


def degrade(
    key: jax.Array, hr: jax.Array, *, scale: int, settings: RealESRGAN = PUBLISHED
) -> jax.Array:
    """Degrades an image at random.

    Args:
        key: A random key, on which alone the degradation depends.
        hr: (H, W, 3) float32 in [0, 1], H and W multiples of `scale`. The published training takes
            HR after the unsharp mask.
        scale: HR size divided by LR size.
        settings: Probabilities and ranges.

    Returns:
        (H/scale, W/scale, 3) float32: multiples of 1/255.
    """
    draw_key, noise_key, clean_key = jax.random.split(key, 3)

    def at_random() -> jax.Array:
        return apply(noise_key, hr, draw(draw_key, settings), scale, settings)

    if not settings.clean_prob:
        return at_random()
    is_clean = jax.random.bernoulli(clean_key, settings.clean_prob)
    return lax.cond(is_clean, lambda: _levels(imresize.resize(hr, 1 / scale)), at_random)


def apply(
    key: jax.Array, hr: jax.Array, draws: Draws, scale: int, settings: RealESRGAN = PUBLISHED
) -> jax.Array:
    """Degrades an image by parameters that are drawn already; see `degrade`.

    Only the upper ends of the sizes are taken from `settings`: they are the sizes of the canvases.
    """
    height, width, _ = hr.shape
    if height % scale or width % scale:
        raise ValueError(f"hr is {hr.shape}: its sides must be multiples of {scale}")
    first_key, second_key = jax.random.split(key)
    full, lr = (height, width), (height // scale, width // scale)
    image, size = _order(first_key, hr, full, draws.first, full, settings.resize_range[1])
    image = jpeg(image, draws.first.quality, *size)
    image, size = _order(second_key, image, size, draws.second, lr, settings.resize_range2[1])
    sinc = jnp.where(draws.filtered, _kernel(draws.sinc), kernels.pulse())

    def finish(image: jax.Array) -> jax.Array:
        return filter2d(resize(image, size, lr, draws.mode, lr), sinc, *lr)

    # JPEG is computed once, of what comes before it in either order.
    last = draws.jpeg_last
    canvas = ((0, image.shape[0] - lr[0]), (0, image.shape[1] - lr[1]), (0, 0))
    image = jnp.where(last, jnp.pad(finish(image), canvas), image)
    shown = [jnp.where(last, after, before) for after, before in zip(lr, size, strict=True)]
    image = jpeg(image, draws.second.quality, *shown)
    image = jnp.where(last, image[: lr[0], : lr[1]], finish(image))
    return _levels(image)


def _order(
    key: jax.Array, image: jax.Array, size: Size, drawn: Order, unit: tuple[int, int], most: float
) -> tuple[jax.Array, Size]:
    """Blurs, resizes and adds noise; returns the image on its canvas and its size there.

    Args:
        key: Of the noise.
        image: A canvas, (H, W, 3).
        size: Of the image on it.
        drawn: The parameters.
        unit: The size that a scale of 1 stands for.
        most: The largest scale.
    """
    kernel = jnp.where(drawn.blurred, _kernel(drawn.blur), kernels.pulse())
    image = filter2d(image, kernel, *size)
    after = [jnp.maximum(jnp.floor(side * drawn.scale), 1).astype(jnp.int32) for side in unit]
    canvas = [-(-int(side * most) // BLOCK) * BLOCK for side in unit]
    image = resize(image, size, (after[0], after[1]), drawn.mode, (canvas[0], canvas[1]))
    noise = key, image, drawn.noise, drawn.gray
    image = lax.cond(drawn.gaussian, gaussian_noise, poisson_noise, *noise)
    return image, (after[0], after[1])


def _levels(image: jax.Array) -> jax.Array:
    """Returns an image as 8 bits hold it."""
    return jnp.round(jnp.clip(image, 0, 1) * 255) / 255


def _kernel(blur: Blur) -> jax.Array:
    return kernels.kernel(**blur._asdict())
