"""MATLAB's bicubic `imresize`, on the host in float64 and on the device in exact integers.

The LR images of every published x4 set are from MATLAB's imresize: Keys' cubic with a = -0.5,
widened by 1/scale for reduction, symmetric borders, one rounding at the end. Scores on LR images
of another kernel (OpenCV, Pillow, jax.image at the borders) are not comparable.
"""

from fractions import Fraction
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

EXACT_SCALES = (1, 2, 3, 4, 8)


def imresize(image: np.ndarray, scale: float | Fraction) -> np.ndarray:
    """Resizes an image as MATLAB does: height first, then width, one rounding at the end.

    Args:
        image: (H, W) or (H, W, C), uint8 or float of any range.
        scale: Output pixels per input pixel, such as 2, 1/4 or `Fraction(1, 3)`.

    Returns:
        (ceil(H·scale), ceil(W·scale), …): uint8 (clipped, halves away from zero) from uint8, else
        float64, unrounded.
    """
    result = image.astype(np.float64)
    for axis in (0, 1):
        size = image.shape[axis]
        indices, weights = taps(size, output_size(size, scale), scale)
        rows = np.moveaxis(result, axis, 0)
        shape = (-1,) + (1,) * (image.ndim - 1)
        resized = sum(
            weight.reshape(shape) * rows[index]
            for index, weight in zip(indices.T, weights.T, strict=True)
        )
        result = np.moveaxis(np.asarray(resized), 0, axis)
    if image.dtype != np.uint8:
        return result
    # Sums of levels (not of levels / 255) are exact in float64 at scales 1/2, 1/4 and 1/8, and at
    # 1/3 never a tie.
    return np.floor(np.clip(result, 0, 255) + 0.5).astype(np.uint8)


def resize(image: jax.Array | np.ndarray, scale: float | Fraction) -> jax.Array:
    """Resizes float images on the device with MATLAB's matrices, unrounded.

    Args:
        image: (..., H, W, C) float of any range.
        scale: As for `imresize`; static under jit.

    Returns:
        (..., ceil(H·scale), ceil(W·scale), C) of the dtype of `image`.
    """
    height, width = image.shape[-3:-1]
    rows = resize_matrix(height, output_size(height, scale), scale).astype(np.float32)
    columns = resize_matrix(width, output_size(width, scale), scale).astype(np.float32)
    return _columns(columns, _rows(rows, jnp.asarray(image, jnp.float32))).astype(image.dtype)


def degrade(hr: jax.Array | np.ndarray, scale: int) -> jax.Array:
    """Makes LR patches from HR patches, exactly as MATLAB writes them into a PNG.

    The kernel reaches over the edge of a patch. So a patch has `margin(scale)` more pixels of its
    image on every side, and the result is the crop of the LR of the whole image.

    Weights are multiples of 1/D, so the sums are integers. All sums are below 2**24 and so exact
    in float32, in any order of addition: levels are centred at 128, and between the two passes the
    integers are split into digits, which are summed separately and carried in int32. Exact for
    scales 1, 2, 3, 4 and 8; other scales need LR images from elsewhere (16 overflows).

    Args:
        hr: (N, P + 2m, P + 2m, C) uint8, m = margin(scale), P a multiple of `scale`.
        scale: One of `EXACT_SCALES`; static under jit.

    Returns:
        (N, P/scale, P/scale, C) float32 in [0, 1]: multiples of 1/255.
    """
    if scale not in EXACT_SCALES:
        raise ValueError(f"scale is {scale}: LR is made exactly for {EXACT_SCALES} only")
    m = margin(scale)
    for size in hr.shape[1:3]:
        if size <= 2 * m or size % scale:
            raise ValueError(
                f"hr is {hr.shape}: its sides must be a multiple of {scale} and a margin "
                f"of {m} pixels on every side"
            )
    unit = _unit(scale)
    rows, columns = (_integer_matrix(size, scale) for size in hr.shape[1:3])
    first = _rows(rows, jnp.asarray(hr, jnp.float32) - 128)
    radices = (unit,) if unit <= 4096 else (256, unit // 256)
    digits = []
    for radix in radices:
        rest = jnp.round(first / radix)
        digits.append(first - radix * rest)
        first = rest
    carry = jnp.int32(0)
    for digit, radix in zip(digits, radices, strict=True):
        carry = (_columns(columns, digit).astype(jnp.int32) + carry) // radix
    # Rounds halves up, which is away from zero, as levels are not negative.
    level = (_columns(columns, first).astype(jnp.int32) + carry + unit // 2) // unit + 128
    return jnp.clip(level, 0, 255).astype(jnp.float32) / 255


def margin(scale: int) -> int:
    """Returns the HR pixels that `degrade` needs on every side of a patch, half the kernel."""
    return 2 * scale


def mod_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Crops (H, W, …) at the bottom and the right to multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def output_size(size: int, scale: float | Fraction) -> int:
    """Returns ceil(size·scale), where the float 1/3 is taken for the exact fraction."""
    exact = _exact(scale)
    return -(-size * exact.numerator // exact.denominator)


def resize_matrix(in_size: int, out_size: int, scale: float | Fraction) -> np.ndarray:
    """Returns the matrix that resizes one axis, the symmetric border included.

    Returns:
        (out_size, in_size) float64; every row sums to 1.
    """
    indices, weights = taps(in_size, out_size, scale)
    matrix = np.zeros((out_size, in_size))
    np.add.at(matrix, (np.arange(out_size)[:, None], indices), weights)
    return matrix


def taps(in_size: int, out_size: int, scale: float | Fraction) -> tuple[np.ndarray, np.ndarray]:
    """Returns the input pixels of each output pixel and their weights, both (out_size, taps)."""
    scale = float(_exact(scale))
    shrink = min(scale, 1.0)  # antialiasing: the kernel covers four output pixels
    width = 4 / shrink
    centre = (np.arange(out_size) + 0.5) / scale - 0.5
    left = np.floor(centre - width / 2).astype(np.int64)
    indices = left[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = _cubic((centre[:, None] - indices) * shrink)
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    return mirror(indices[:, used], in_size), weights[:, used]


def mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Maps indices to those of the symmetric continuation … 1 0 | 0 1 2 … n-1 | n-1 n-2 …"""
    index = index % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _exact(scale: float | Fraction) -> Fraction:
    near = Fraction(scale).limit_denominator(1000)
    return near if abs(near - scale) < 1e-9 else Fraction(scale)


def _unit(scale: int) -> int:
    """Returns D: weights for 1/scale are multiples of 1/D (cubes of halves / scale)."""
    return 2 * scale**4 if scale % 2 else 16 * scale**4


@lru_cache(maxsize=32)
def _integer_matrix(size: int, scale: int) -> np.ndarray:
    """Returns the weights times D, (size/scale - 4, size), without rows that see the border."""
    matrix = resize_matrix(size, size // scale, Fraction(1, scale))[2:-2] * _unit(scale)
    return np.round(matrix).astype(np.float32)


def _rows(matrix: np.ndarray, image: jax.Array) -> jax.Array:
    return jnp.einsum("oi,...iwc->...owc", matrix, image, precision="highest")


def _columns(matrix: np.ndarray, image: jax.Array) -> jax.Array:
    return jnp.einsum("oi,...hic->...hoc", matrix, image, precision="highest")
