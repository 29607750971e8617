"""Resizing between sizes that are known on the device only, as torch's `F.interpolate` does it.

A size is a number and not a shape: an image lies at the top left of a canvas, and the weights of
each axis are a matrix between two canvases.
"""

import jax
import jax.numpy as jnp

MODES = ("area", "bilinear", "bicubic")
Scalar = jax.Array | int


def resize(
    image: jax.Array,
    before: tuple[Scalar, Scalar],
    after: tuple[Scalar, Scalar],
    mode: Scalar,
    canvas: tuple[int, int],
) -> jax.Array:
    """Resizes by one of MODES, with `align_corners=False` and without antialiasing.

    Args:
        image: (H, W, C) float32.
        before: Height and width of the image on it; can be traced, as `after` and `mode` can.
        after: Height and width of the result, at most `canvas`.
        mode: Index into MODES.
        canvas: Shape of the result without channels.

    Returns:
        (*canvas, C) float32. Beyond `after` the last row and the last column are repeated.
    """
    rows, columns = (
        weights(mode, before[axis], after[axis], canvas[axis], image.shape[axis]) for axis in (0, 1)
    )
    image = jnp.einsum("oi,iwc->owc", rows, image, precision="highest")
    return jnp.einsum("oi,hic->hoc", columns, image, precision="highest")


def weights(mode: Scalar, before: Scalar, after: Scalar, rows: int, columns: int) -> jax.Array:
    """Returns the (rows, columns) matrix that resizes an axis from `before` to `after` pixels."""
    before, after = jnp.asarray(before, jnp.int32), jnp.asarray(after, jnp.int32)
    out = jnp.minimum(jnp.arange(rows), after - 1)[:, None]
    pixel = jnp.arange(columns)[None]
    centre = (out + 0.5) * (before.astype(jnp.float32) / after.astype(jnp.float32)) - 0.5
    every = [_area(out, pixel, before, after)]
    every += [_bilinear(centre, pixel, before), _bicubic(centre, pixel, before)]
    return jnp.select([jnp.asarray(mode) == i for i in range(len(MODES))], every)


def _area(out: jax.Array, pixel: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
    """The mean of all pixels that an output pixel touches, as in adaptive average pooling."""
    first, end = out * before // after, ((out + 1) * before + after - 1) // after
    return jnp.where((first <= pixel) & (pixel < end), 1 / (end - first), 0)


def _bilinear(centre: jax.Array, pixel: jax.Array, before: jax.Array) -> jax.Array:
    inside = jnp.clip(centre, 0, before - 1)
    return jnp.maximum(1 - jnp.abs(inside - pixel), 0)


def _bicubic(centre: jax.Array, pixel: jax.Array, before: jax.Array) -> jax.Array:
    """Keys' kernel with a = -0.75, as in torch and OpenCV; beyond the border the edge repeats."""
    left = jnp.floor(centre)
    total = jnp.zeros((), jnp.float32)
    for tap in (-1, 0, 1, 2):
        x = jnp.abs(centre - left - tap)
        near = (1.25 * x - 2.25) * x * x + 1
        far = ((-0.75 * x + 3.75) * x - 6) * x + 3
        at = jnp.clip(left + tap, 0, before - 1) == pixel
        total = total + jnp.where(at, jnp.where(x <= 1, near, far), 0)
    return total
