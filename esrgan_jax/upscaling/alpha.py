"""Alpha: enlarged by itself, since a mask is no photograph, and the colours that go on under it.

What makes photographs sharp follows the stairs of a hard mask and leaves holes beside its edge
(`benchmarks/alpha.py` compares). Here a bicubic enlargement is made steep where an edge is as
narrow as a pixel, and stays within what is around.
"""

from typing import Any

import jax
import jax.numpy as jnp

from esrgan_jax.data.resize import resize
from esrgan_jax.models.borders import continued, inside, take
from esrgan_jax.upscaling.color import blur

CONTINUED = 24  # LR pixels that colours go on under what is transparent
REACH = 8  # LR pixels that alpha is continued at the picture's border, more than is looked at
STEEP = 0.7  # steepness that a further unit of scale adds to an edge that is a pixel wide
# An edge is taken to be a pixel wide where 3 pixels span at least that part of what 5 span, and
# those that part of all: blurred edges and fine hair stay as soft as they are.
NARROW, FULL = 0.98, 0.85
SLACK = 0.1  # of what 3 pixels span, beyond which a soft peak does not rise
SMOOTH = 0.7  # LR pixels, of the filter that evens out the stairs of hard edges


def enlarged_alpha(
    alpha: jax.Array, sizes: jax.Array, scale: int, border: str, strength: Any = None
) -> jax.Array:
    """Alpha at the size of the result; what is one value around a pixel stays exactly that value.

    Args:
        alpha: (N, h, w, 1) in [0, 1].
        sizes: (N, 2) int, the height and width that is picture.
        scale: Of the result; 1 changes nothing.
        border: What lies beyond a picture: itself for "wrap", otherwise its mirror image.
        strength: 0 is bicubic enlargement within what is around, 1 (or None) all of the above.

    Returns:
        (N, scale h, scale w, 1).
    """
    if scale == 1:
        return alpha
    strength = 1 if strength is None else strength
    alpha = _beyond(alpha, sizes, border)
    smooth = alpha + strength * (_without_stairs(alpha) - alpha)
    low, high = _extremes(alpha, 3)
    wide_low, wide_high = _extremes(alpha, 5)
    span, wide = high - low, wide_high - wide_low
    full = ((wide - FULL) / (1 - FULL)).clip(0, 1)
    narrow = ((span / jnp.maximum(wide, 1e-6) - NARROW) / (1 - NARROW)).clip(0, 1)
    # Of pixels beside such an edge too, or it would have a pale line along it.
    edge = _around(full * narrow, 3, jax.lax.max)
    steep = 1 + strength * STEEP * (scale - 1) * edge
    slack = SLACK * span * (1 - full)
    middle, steep, low, high = (
        _repeated(x, scale) for x in ((wide_low + wide_high) / 2, steep, low - slack, high + slack)
    )
    result = (middle + (resize(smooth, scale) - middle) * steep).clip(low, high)
    cut = REACH * scale
    return result[:, cut:-cut, cut:-cut]


def bounded_alpha(made: jax.Array, alpha: jax.Array, sizes: jax.Array, border: str) -> jax.Array:
    """A network's own alpha, within what is around: opaque stays opaque and hidden hidden.

    Args:
        made: (N, scale h, scale w, 1), of a network of four channels.
        alpha: (N, h, w, 1), what it was made of.
        sizes: (N, 2) int, the height and width that is picture.
        border: What lies beyond a picture.
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
    """Alpha with `REACH` pixels more on all sides, and the same beyond each picture's own size."""
    border = "wrap" if border == "wrap" else "mirror"
    positions = [jnp.arange(-REACH, alpha.shape[axis] + REACH)[None] for axis in (1, 2)]
    indices = [continued(p, sizes[:, i : i + 1], border) for i, p in enumerate(positions)]
    return take(alpha, *indices)


def _without_stairs(alpha: jax.Array) -> jax.Array:
    """Hard edges smoothed, but where something is thin or an edge is soft already."""
    low, high = _extremes(alpha, 3)
    opened, closed = _extremes(low, 3)[1], _extremes(high, 3)[0]
    soft, thin = (alpha > low) & (alpha < high), opened != closed
    keep = (_around(soft, 3, jax.lax.max) > 0) | (_around(thin, 5, jax.lax.max) > 0)
    return jnp.where(keep, alpha, blur(alpha, SMOOTH, 2))


def _extremes(x: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
    """The lowest and the highest value in a square around each pixel."""
    return _around(x, side, jax.lax.min), _around(x, side, jax.lax.max)


def _around(x: jax.Array, side: int, reduce: Any) -> jax.Array:
    start = -jnp.inf if reduce is jax.lax.max else jnp.inf
    window = ((1, side, side, 1), (1, 1, 1, 1), "SAME")
    return jax.lax.reduce_window(x.astype(jnp.float32), start, reduce, *window)


def _repeated(x: jax.Array, scale: int) -> jax.Array:
    return x.repeat(scale, axis=1).repeat(scale, axis=2)
