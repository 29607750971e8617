"""Converts images with any bands to network inputs, and results back to images."""

import jax
import jax.numpy as jnp

from esrgan_jax.errors import InputError
from esrgan_jax.gray import to_gray
from esrgan_jax.models.generator import Generator
from esrgan_jax.upscaling.alpha import bounded_alpha, continued_colors, upscale_alpha


def result_bands(bands: int, module: Generator) -> int:
    """Returns the bands of a result: as many, unless the network adds or removes colour or alpha.

    Raises:
        InputError: The network's input or output channels are not 1, 3 or 4.
    """
    channels, made = module.in_channels, module.out_channels
    if channels not in (1, 3, 4) or made not in (1, 3, 4):
        raise InputError(
            f"the network has {channels} input and {made} output channels: they must be 1, 3 or 4"
        )
    if channels == made == 1:  # band by band
        return bands
    gray = made == 1 or (bands < 3 and channels != 1)
    has_alpha = bands in (2, 4)
    alpha = made == 4 and has_alpha if channels == 4 else made == 4 or has_alpha
    return (1 if gray else 3) + alpha


def to_planes(lr: jax.Array, sizes: jax.Array, module: Generator, step: float) -> jax.Array:
    """Makes the network's inputs from images: (N, h, w, bands) -> (N, planes, h, w, in_channels).

    Only networks of four channels get alpha. For others, colours are continued under transparent
    pixels, see `alpha.continued_colors`, where `step` is explained. A network from one channel to
    one gets each band separately.
    """
    channels, has_alpha = module.in_channels, lr.shape[-1] in (2, 4)
    color, alpha = (lr[..., :-1], lr[..., -1:]) if has_alpha else (lr, None)
    if channels == 4:
        rgba = [_rgb(color), jnp.ones_like(lr[..., :1]) if alpha is None else alpha]
        return jnp.concatenate(rgba, -1)[:, None]
    color = color if alpha is None else continued_colors(color, alpha, sizes, step)
    if channels == module.out_channels == 1:
        return jnp.moveaxis(color, -1, 1)[..., None]
    return (to_gray(color) if channels == 1 else _rgb(color))[:, None]


def from_planes(
    sr: jax.Array,
    lr: jax.Array,
    sizes: jax.Array,
    module: Generator,
    border: str,
    strength: float | None,
) -> jax.Array:
    """Makes images from the network's results, the inverse of `to_planes`.

    Args:
        sr: (N, planes, H, W, out_channels).
        lr: (N, h, w, bands), the images.
        sizes: (N, 2) int, height and width of each image within the array.
        module: The network.
        border: How images are continued, see `upscaling.borders`.
        strength: For alpha, as in `upscale_step`.

    Returns:
        (N, H, W, `result_bands`), unclamped.
    """
    bands, channels = lr.shape[-1], module.in_channels
    if channels == module.out_channels == 1:
        color = jnp.moveaxis(sr[..., 0], 1, -1)
    else:
        color = sr[:, 0, ..., :3]
        color = to_gray(color) if bands < 3 and channels != 1 else color
    made = sr[:, 0, ..., 3:] if module.out_channels == 4 else None
    if bands in (1, 3):
        alpha = made if channels != 4 else None
    elif channels != 4:
        alpha = upscale_alpha(lr[..., -1:], sizes, module.scale, border, strength)
    else:
        alpha = None if made is None else bounded_alpha(made, lr[..., -1:], sizes, border)
    return color if alpha is None else jnp.concatenate([color, alpha], -1)


def _rgb(x: jax.Array) -> jax.Array:
    return x if x.shape[-1] == 3 else x.repeat(3, axis=-1)
