"""Upscales alpha without the network, and continues colours under transparent pixels.

What makes photographs sharp follows the stairs of a hard mask and leaves holes beside its edge
(`benchmarks/alpha.py` compares). Here the result is bicubic, and sharper only where the pixels
around show that the edge is sharp, so that no tested mask comes out worse than with it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from esrgan_jax.imresize import resize
from esrgan_jax.models.borders import continued, inside, take
from esrgan_jax.upscaling.color import blur

CONTINUED = 24  # LR pixels that colours go on under what is transparent
REACH = 8  # LR pixels that alpha is continued at the image's border, more than is looked at
STEEP = 0.7  # steepness that a further unit of scale adds to an antialiased edge
FULL_CONTRAST = 0.85  # of the whole range, which 5x5 pixels must span before an edge is made steep
BLUR = 0.015  # of the whole range: an edge with so much evidence of blur stays as it is
THIN = 0.3  # steepness that a unit of scale beyond 2 adds to thin hard shapes
SIGMAS = (0.5, 0.7, 1.1, 1.6)  # LR pixels, of filters that even out the stairs of hard edges


def upscale_alpha(
    alpha: jax.Array, sizes: jax.Array, scale: int, border: str, strength: Any = None
) -> jax.Array:
    """Alpha at the size of the result; what is one value around a pixel stays exactly that value.

    Args:
        alpha: (N, h, w, 1) in [0, 1].
        sizes: (N, 2) int, the height and width that is image.
        scale: Of the result; 1 changes nothing.
        border: What lies beyond an image: itself for "wrap", otherwise its mirror image.
        strength: 0 is bicubic enlargement within what is around, 1 (or None) all of the above.

    Returns:
        (N, scale h, scale w, 1).
    """
    if scale == 1:
        return alpha
    strength = 1 if strength is None else strength
    alpha = _beyond(alpha, sizes, border)
    low, high = _extremes(alpha, 3)
    wide_low, wide_high = _extremes(alpha, 5)
    # An antialiased edge is so narrow that from each pixel that it crosses, 3x3 pixels reach both
    # sides. Those of a blurred edge are some way off one side, and do not reach the other.
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
    # Bicubic rises by a quarter of a step at most above what is around.
    slack = 0.3 * (high - low)
    bicubic = bicubic.clip(jnp.maximum(low - slack, 0), jnp.minimum(high + slack, 1))
    result = bicubic + strength * part * (steep.clip(low, high) - bicubic)
    cut = REACH * scale
    return result[:, cut:-cut, cut:-cut]


def bounded_alpha(made: jax.Array, alpha: jax.Array, sizes: jax.Array, border: str) -> jax.Array:
    """A network's own alpha, within what is around: opaque stays opaque and hidden hidden.

    Args:
        made: (N, scale h, scale w, 1), of a network of four channels.
        alpha: (N, h, w, 1), what it was made of.
        sizes: (N, 2) int, the height and width that is image.
        border: What lies beyond an image.
    """
    scale = made.shape[1] // alpha.shape[1]
    extremes = _extremes(_beyond(alpha, sizes, border), 3)
    low, high = (_repeated(x[:, REACH:-REACH, REACH:-REACH], scale) for x in extremes)
    return made.clip(low, high)


def continued_colors(
    color: jax.Array, alpha: jax.Array, sizes: jax.Array, step: float
) -> jax.Array:
    """Colours as they are seen, and under what is not, those of what is seen around.

    What is hidden then bleeds nowhere, and the network sees no edge where colour ends but alpha
    does: sharpened each for itself, the two would not fit, and leave a fringe. Premultiplied
    means, of ever smaller surroundings; where nothing is seen within `CONTINUED` pixels, zero.
    """
    premultiplied, filled = color * alpha, jnp.zeros_like(color)
    for sigma in (8, 3, 1):
        around = blur(alpha, sigma, CONTINUED)
        filled = (blur(premultiplied, sigma, CONTINUED) + 1e-3 * filled) / (around + 1e-3)
    trust = (1 - alpha) * step  # in the fill: the colour of an alpha of few levels is rounded
    seen = (premultiplied + trust * filled) / (alpha + trust)
    height, width = color.shape[1:3]
    return jnp.where(inside(height, width, sizes[:, :1], sizes[:, 1:]), seen, 0)


def _beyond(alpha: jax.Array, sizes: jax.Array, border: str) -> jax.Array:
    """Alpha with `REACH` pixels more on all sides, and the same beyond each image's own size."""
    border = "wrap" if border == "wrap" else "mirror"
    positions = [jnp.arange(-REACH, alpha.shape[axis] + REACH)[None] for axis in (1, 2)]
    indices = [continued(p, sizes[:, i : i + 1], border) for i, p in enumerate(positions)]
    return take(alpha, *indices)


def _distance(alpha: jax.Array, scale: int) -> jax.Array:
    """The distance of a hard mask's pixels from its smoothed edge, in LR pixels, positive inside.

    A straight edge that is blurred tells its distance. The wider the blur the smoother the edge,
    but corners and curves move: so each pixel takes the widest that leaves what is around alone.
    """
    # Where pixels of the result are small, stairs are worse than edges that move.
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
    """Where a hard shape, or a gap of it, is a pixel wide: what holds no square of 2x2 pixels."""
    opened = _around(_around(alpha, 2, jax.lax.min, 1), 2, jax.lax.max)
    closed = _around(_around(alpha, 2, jax.lax.max, 1), 2, jax.lax.min)
    return _around(opened != closed, 5, jax.lax.max) > 0


def _extremes(x: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest value in a square around each pixel."""
    return _around(x, side, jax.lax.min), _around(x, side, jax.lax.max)


def _around(x: jax.Array, side: int, reduce: Any, after: int = 0) -> jax.Array:
    """Reduces a square around each pixel; an even one begins at it, or with `after` ends there.

    Values are within -1 and 1. Infinities, in the padding of an image that is split over devices,
    would become NaN.
    """
    start = -2.0 if reduce is jax.lax.max else 2.0
    pad = ((side - 1) // 2 + after, side // 2 - after)
    window = ((1, side, side, 1), (1, 1, 1, 1), ((0, 0), pad, pad, (0, 0)))
    return jax.lax.reduce_window(x.astype(jnp.float32), start, reduce, *window)


def _repeated(x: jax.Array, scale: int) -> jax.Array:
    return x.repeat(scale, axis=1).repeat(scale, axis=2)
