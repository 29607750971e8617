"""Pixel shuffle and unshuffle in PyTorch's channel order."""

import jax

from esrgan_jax.errors import InputError


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    """(N, H, W, C f²) -> (N, fH, fW, C), the inverse of `pixel_unshuffle`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, c // factor**2, factor, factor).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, h * factor, w * factor, c // factor**2)


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """(N, H, W, C) -> (N, H/f, W/f, C f²), channel-major (c f² + dy f + dx) as torch orders it."""
    if factor == 1:
        return x
    n, h, w, c = x.shape
    if h % factor or w % factor:
        raise InputError(f"a {h}x{w} image cannot be unshuffled by {factor}: pad it first")
    x = x.reshape(n, h // factor, factor, w // factor, factor, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(n, h // factor, w // factor, c * factor**2)
