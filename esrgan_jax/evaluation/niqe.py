"""NIQE, a quality score of one image without a reference.

Mittal, Soundararajan and Bovik 2013, "Making a 'Completely Blind' Image Quality Analyzer", with
the statistics of their photographs. A good photograph scores about 3; higher is worse.
"""

import math
import os
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.luma import rgb_to_y
from esrgan_jax.imresize import imresize
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import check_tensors, read_tensors

BLOCK_SIDE = 96  # side of a block in pixels, at full size
WINDOW = 7  # side of the window of local means
FEATURES = 36  # of a block: 18 at full size, 18 at half size
BATCH = 16  # blocks that are computed at once
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (down, right) from a pixel


class Pristine(NamedTuple):
    """The statistics of good photographs, all float64.

    Attributes:
        mean: (36,), the mean of the features.
        covariance: (36, 36), the covariance of the features.
        window: (7, 7), the Gaussian weights of local means; their sum is 1.
    """

    mean: np.ndarray
    covariance: np.ndarray
    window: np.ndarray


def load_niqe() -> Callable[[np.ndarray], float]:
    """Returns `niqe` as a function of an image, with the authors' statistics.

    The statistics are downloaded once by `zoo.fetch`.

    Raises:
        InputError: The file has the wrong content.
        RunError: As `zoo.fetch`.
    """
    return partial(niqe, read_pristine(zoo.fetch("niqe")))


def read_pristine(path: str | os.PathLike[str]) -> Pristine:
    """Reads the statistics from BasicSR's file; raises InputError for any other file."""
    tensors = read_tensors(path)
    expected: dict[str, tuple[int, ...]] = {
        "mu_pris_param": (1, FEATURES),
        "cov_pris_param": (FEATURES, FEATURES),
        "gaussian_window": (WINDOW, WINDOW),
    }
    check_tensors(tensors, expected, f"{path}: not the statistics of NIQE")
    mean, covariance, window = (np.array(tensors[name], np.float64) for name in expected)
    return Pristine(mean[0], covariance, window)


def niqe(pristine: Pristine, image: np.ndarray) -> float:
    """Returns the distance of an image from good photographs, as BasicSR and the authors' MATLAB.

    Args:
        pristine: From `read_pristine`.
        image: uint8, (H, W, 3) RGB or (H, W) luma. Pixels at the right and at the bottom that do
            not fill a block of 96x96 px are left out.

    Raises:
        InputError: The image has another shape or dtype, fewer than two blocks, or fewer than two
            blocks with texture.
    """
    luma = _luma(image)
    rows, columns = (side // BLOCK_SIDE for side in luma.shape)
    if rows * columns < 2:
        raise InputError(
            f"NIQE needs two blocks of {BLOCK_SIDE}x{BLOCK_SIDE} px or more, got "
            f"{luma.shape[1]}x{luma.shape[0]} px; score a larger image"
        )
    luma = luma[: rows * BLOCK_SIDE, : columns * BLOCK_SIDE]
    scales = (_blocks(luma, BLOCK_SIDE), _blocks(imresize(luma, 0.5), BLOCK_SIDE // 2))
    features = [_features(_moments(blocks, pristine.window)) for blocks in scales]
    features = np.concatenate(features, axis=1)
    textured = features[np.isfinite(features).all(axis=1)]
    if len(textured) < 2:
        raise InputError(
            f"NIQE needs texture in two blocks of {BLOCK_SIDE}x{BLOCK_SIDE} px or more, "
            "and this image is flat; leave it out"
        )
    # As in the original, flat blocks are left out of the covariance, but from the mean only their
    # undefined features are left out. Their shapes, for which `_fit` gives the smallest, count.
    difference = pristine.mean - np.nanmean(features, axis=0)
    covariance = (pristine.covariance + np.cov(textured, rowvar=False)) / 2
    return math.sqrt(max(0.0, difference @ np.linalg.pinv(covariance) @ difference))


def _luma(image: np.ndarray) -> np.ndarray:
    """Returns the luma of an image as (H, W) float64, rounded to whole levels."""
    gray = image.ndim == 2
    if image.dtype != np.uint8 or not (gray or (image.ndim == 3 and image.shape[2] == 3)):
        raise InputError(
            f"NIQE takes an image of (H, W, 3) or (H, W) uint8, got {image.shape} {image.dtype}"
        )
    return image.astype(np.float64) if gray else np.round(rgb_to_y(image))


def _blocks(luma: np.ndarray, side: int) -> np.ndarray:
    """Cuts (H, W) into (blocks, side + 6, side + 6), with the margin that the windows need."""
    padded = np.pad(luma, WINDOW // 2, mode="edge")
    reach = side + WINDOW - 1
    views = np.lib.stride_tricks.sliding_window_view(padded, (reach, reach))
    return views[::side, ::side].reshape(-1, reach, reach)


def _moments(blocks: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Returns (blocks, 5, 5) as `_batch_moments`, for blocks from `_blocks`."""
    # Batches have one size, so that two programs are compiled, not two for each size of image.
    padded = np.pad(blocks, ((0, -len(blocks) % BATCH), (0, 0), (0, 0)))
    batches = padded.reshape(-1, BATCH, *blocks.shape[1:])
    # float32 would round the half-size levels. In flat areas the signs of these rounding errors
    # count: Set14's foreman would score 5.9375, not 5.9378.
    with jax.enable_x64(True):
        moments = [np.asarray(_batch_moments(batch, window)) for batch in batches]
    return np.concatenate(moments)[: len(blocks)]


@jax.jit
def _batch_moments(blocks: jax.Array, window: jax.Array) -> jax.Array:
    """Returns the moments to which `_fit` fits the distributions of blocks.

    Args:
        blocks: (N, side + 6, side + 6) in levels.
        window: (7, 7).

    Returns:
        (N, 5, 5). The second axis is the contrast-normalised luma and its products with four
        neighbours (the block wraps around). The third axis is the share of negative values, the
        share of positive values, and three means over the block: the squares of the negative
        values, the squares of the positive values, and the absolute values.
    """
    reach = WINDOW // 2
    centre = blocks[:, reach:-reach, reach:-reach]

    def add(
        sums: tuple[jax.Array, jax.Array], tap: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        weight, down, right = tap
        # Differences from the centre are summed, not levels. Otherwise the variance would be a
        # small difference of large numbers, and rounding errors would look like texture.
        difference = lax.dynamic_slice(blocks, (0, down, right), centre.shape) - centre
        return (sums[0] + weight * difference, sums[1] + weight * difference**2), None

    down, right = jnp.divmod(jnp.arange(WINDOW**2), WINDOW)
    zeros = jnp.zeros_like(centre)
    (mean, square), _ = lax.scan(add, (zeros, zeros), (window.reshape(-1), down, right))
    luma = -mean / (jnp.sqrt(jnp.abs(square - mean**2)) + 1)

    values = jnp.stack([luma, *(luma * jnp.roll(luma, shift, (1, 2)) for shift in NEIGHBOURS)], 1)
    negative, positive = values < 0, values > 0
    moments = (
        negative.astype(luma.dtype),
        positive.astype(luma.dtype),
        jnp.where(negative, values**2, 0),
        jnp.where(positive, values**2, 0),
        jnp.abs(values),
    )
    return jnp.stack([moment.mean(axis=(2, 3)) for moment in moments], axis=-1)


def _features(moments: np.ndarray) -> np.ndarray:
    """Returns the (blocks, 18) features of one scale from the (blocks, 5, 5) of `_moments`.

    These are shape and spread of the luma, then shape, mean, left and right spread of each product.
    """
    shape, mean, left, right = _fit(moments)
    luma = np.stack([shape[:, 0], (left[:, 0] + right[:, 0]) / 2], axis=-1)
    products = np.stack([shape, mean, left, right], axis=-1)[:, 1:]
    return np.concatenate([luma, products.reshape(len(luma), -1)], axis=1)


def _fit(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fits asymmetric generalised Gaussians to moments (Lasmar, Stitou and Berthoumieu 2009).

    Args:
        moments: (..., 5), as `_batch_moments`.

    Returns:
        Shape, mean, left and right spread, (...) each. If a block has no values of one sign, they
        are NaN, except the shape, which is then the smallest of the table.
    """
    negative, positive, left_square, right_square, absolute = np.moveaxis(moments, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = np.sqrt(left_square / negative), np.sqrt(right_square / positive)
        skew = left / right
        ratio = absolute**2 / (left_square + right_square)
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shapes, ratios, spreads, means = _tables()
    nearest = np.searchsorted((ratios[1:] + ratios[:-1]) / 2, ratio)
    nearest = np.where(np.isnan(ratio), 0, nearest)
    left, right = left * spreads[nearest], right * spreads[nearest]
    return shapes[nearest], (right - left) * means[nearest], left, right


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, ...]:
    """Returns the shapes to try, 0.2 to 10 in steps of 0.001, and three ratios of Γ for each."""
    shapes = 0.2 + 0.001 * np.arange(9801)
    gamma1, gamma2, gamma3 = (
        np.array([math.gamma(order / shape) for shape in shapes]) for order in (1, 2, 3)
    )
    return shapes, gamma2**2 / (gamma1 * gamma3), np.sqrt(gamma1 / gamma3), gamma2 / gamma1
