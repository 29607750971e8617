"""Upscales alpha without the network, and continues colours under transparent pixels.

Networks for photographs reproduce the stairs of a hard mask and leave holes along its edge
(`benchmarks/alpha.py` compares). Here the result is bicubic, and sharper only where the
surrounding pixels show a sharp edge, so that no tested mask becomes worse than by bicubic.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from esrgan_jax.imresize import resize
from esrgan_jax.upscaling.borders import continued, inside, take
from esrgan_jax.upscaling.color import blur

CONTINUED = 24  # LR pixels that colours are continued under transparent ones
REACH = 8  # LR pixels that alpha is continued beyond the image, more than any filter reads
STEEP = 0.7  # added steepness of an antialiased edge per unit of scale above 1
FULL_CONTRAST = 0.85  # part of the range that 5x5 pixels must span for an edge to be made steeper
BLUR = 0.015  # part of the range: an edge with that much evidence of blur is not changed
THIN = 0.3  # added steepness of thin hard shapes per unit of scale above 2
SIGMAS = (0.5, 0.7, 1.1, 1.6)  # in LR pixels, of the filters that smooth the stairs of hard edges


def upscale_alpha(
    alpha: jax.Array,
    sizes: jax.Array,
    scale: int,
    border: str,
    strength: float | jax.Array | None = None,
) -> jax.Array:
    """Upscales alpha; where it is constant around a pixel, it keeps exactly that value.

    Args:
        alpha: (N, h, w, 1) in [0, 1].
        sizes: (N, 2) int, height and width of each image within the array.
        scale: Scale of the result; 1 returns `alpha`.
        border: How an image is continued: "wrap" by itself, all others by its mirror image.
        strength: 0 is bicubic, clipped to the surrounding values; 1 (or None) is the full
            sharpening of edges.

    Returns:
        (N, scale h, scale w, 1).
    """
    if scale == 1:
        return alpha
    strength = 1 if strength is None else strength
    alpha = _beyond(alpha, sizes, border)
    low, high = _extremes(alpha, 3)
    wide_low, wide_high = _extremes(alpha, 5)
    # An antialiased edge is narrow: 3x3 pixels around a pixel on it reach both sides. In a blurred
    # edge they do not reach one of the sides.
    blurred = jnp.maximum(
        jnp.minimum(wide_high - alpha, low - wide_low),
        jnp.minimum(alpha - wide_low, wide_high - high),
    )
    sharp = 1 - ((_around(blurred, 3, jax.lax.max) - 1 / 255) / BLUR).clip(0, 1)
    sharp *= ((wide_high - wide_low - FULL_CONTRAST) / (1 - FULL_CONTRAST)).clip(0, 1)
    hard = _around((alpha > 0) & (alpha < 1), 5, jax.lax.max) == 0
    middle = (wide_low + wide_high) / 2
    middle, hard, thin, low, high = (
        _repeated(x, scale) for x in (middle, hard, _thin(alpha), low, high)
    )
    part, bicubic = resize(sharp, scale).clip(0, 1), resize(alpha, scale)
    more = jnp.where(hard, THIN * (scale - 2), STEEP * (scale - 1))
    steep = middle + (bicubic - middle) * (1 + more)
    steep = jnp.where(hard & ~thin, 0.5 + scale * resize(_distance(alpha, scale), scale), steep)
    # Bicubic overshoots the surrounding values by a quarter of a step at most.
    slack = 0.3 * (high - low)
    bicubic = bicubic.clip(jnp.maximum(low - slack, 0), jnp.minimum(high + slack, 1))
    result = bicubic + strength * part * (steep.clip(low, high) - bicubic)
    cut = REACH * scale
    return result[:, cut:-cut, cut:-cut]


def bounded_alpha(made: jax.Array, alpha: jax.Array, sizes: jax.Array, border: str) -> jax.Array:
    """Clips a network's own alpha to the surrounding values: opaque and hidden areas stay so.

    Args:
        made: (N, scale h, scale w, 1), the alpha of a network of four channels.
        alpha: (N, h, w, 1), the alpha of its input.
        sizes: (N, 2) int, height and width of each image within the array.
        border: How an image is continued, see `upscale_alpha`.
    """
    scale = made.shape[1] // alpha.shape[1]
    extremes = _extremes(_beyond(alpha, sizes, border), 3)
    low, high = (_repeated(x[:, REACH:-REACH, REACH:-REACH], scale) for x in extremes)
    return made.clip(low, high)


def continued_colors(
    color: jax.Array, alpha: jax.Array, sizes: jax.Array, step: float
) -> jax.Array:
    """Replaces colours under transparent pixels by those of the visible pixels around them.

    Hidden colours then do not bleed, and the network sees no edge of colour where alpha has one:
    two edges that are sharpened separately leave a fringe. The colours are premultiplied means
    over smaller and smaller surroundings, and zero if no pixel within `CONTINUED` is visible.

    Args:
        color: (N, h, w, C) in [0, 1].
        alpha: (N, h, w, 1) in [0, 1].
        sizes: (N, 2) int, height and width of each image within the array.
        step: Difference of two levels, 1/255 or 1/65535.
    """
    premultiplied, filled = color * alpha, jnp.zeros_like(color)
    for sigma in (8, 3, 1):
        around = blur(alpha, sigma, CONTINUED)
        filled = (blur(premultiplied, sigma, CONTINUED) + 1e-3 * filled) / (around + 1e-3)
    trust = (1 - alpha) * step  # in the fill: colours of a low alpha are rounded
    seen = (premultiplied + trust * filled) / (alpha + trust)
    height, width = color.shape[1:3]
    return jnp.where(inside(height, width, sizes[:, :1], sizes[:, 1:]), seen, 0)


def _beyond(alpha: jax.Array, sizes: jax.Array, border: str) -> jax.Array:
    """Continues alpha by `REACH` pixels on all sides, and beyond each image's own size."""
    border = "wrap" if border == "wrap" else "mirror"
    positions = [jnp.arange(-REACH, alpha.shape[axis] + REACH)[None] for axis in (1, 2)]
    indices = [continued(p, sizes[:, i : i + 1], border) for i, p in enumerate(positions)]
    return take(alpha, *indices)


def _distance(alpha: jax.Array, scale: int) -> jax.Array:
    """Returns the distance from a hard mask's smoothed edge, in LR pixels, positive inside.

    The value of a blurred straight edge gives the distance. A wider blur smooths more, but moves
    corners and curves: so each pixel takes the widest blur that changes nothing around it.
    """
    # At large scales, stairs are worse than edges that move.
    sigmas, moved = (SIGMAS[1:], 0.15) if scale >= 4 else (SIGMAS, 0.1)
    chosen = near = jnp.zeros_like(alpha)
    for index, sigma in enumerate(sigmas):
        mean = blur(alpha, sigma, 4 if sigma > 1 else 3)
        distance = (sigma * ndtri(mean.clip(1e-4, 1 - 1e-4))).clip(-2, 2)
        if index == 0:
            chosen, near = distance, abs(distance) < 1
            continue
        wrong = ((mean > 0.5) != (alpha > 0.5)) | ((abs(distance - chosen) > moved) & near)
        chosen = jnp.where(_around(wrong, 3, jax.lax.max) > 0, chosen, distance)
    return chosen


def _thin(alpha: jax.Array) -> jax.Array:
    """Returns where a hard shape, or a gap in it, is a pixel wide: without a 2x2 square."""
    opened = _around(_around(alpha, 2, jax.lax.min, 1), 2, jax.lax.max)
    closed = _around(_around(alpha, 2, jax.lax.max, 1), 2, jax.lax.min)
    return _around(opened != closed, 5, jax.lax.max) > 0


def _extremes(x: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
    """Returns the lowest and the highest value in a square around each pixel."""
    return _around(x, side, jax.lax.min), _around(x, side, jax.lax.max)


def _around(x: jax.Array, side: int, reduce: Callable[..., jax.Array], after: int = 0) -> jax.Array:
    """Reduces a square around each pixel; an even one begins there, or with `after` ends there.

    Values are within -1 and 1. Infinite padding would become NaN in images that are split over
    devices.
    """
    start = -2.0 if reduce is jax.lax.max else 2.0
    pad = ((side - 1) // 2 + after, side // 2 - after)
    window = ((1, side, side, 1), (1, 1, 1, 1), ((0, 0), pad, pad, (0, 0)))
    return jax.lax.reduce_window(x.astype(jnp.float32), start, reduce, *window)


def _repeated(x: jax.Array, scale: int) -> jax.Array:
    return x.repeat(scale, axis=1).repeat(scale, axis=2)
