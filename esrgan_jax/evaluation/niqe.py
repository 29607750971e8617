"""NIQE: a quality score of one image without a reference.

Mittal, Soundararajan and Bovik 2013, "Making a 'Completely Blind' Image Quality Analyzer", with
the statistics of their photographs. About 3 for a good photograph; more is worse.
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

BLOCK_SIDE = 96  # pixels of a block's side, at full size
WINDOW = 7  # of local means
FEATURES = 36  # of a block: 18 at full size, 18 at half
BATCH = 16  # blocks at a time
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # of a pixel, (down, right)


class Pristine(NamedTuple):
    """The statistics of good photographs, all float64.

    Attributes:
        mean: (36,), of the features.
        covariance: (36, 36), of the features.
        window: (7, 7), the Gaussian weights of local means, which sum to 1.
    """

    mean: np.ndarray
    covariance: np.ndarray
    window: np.ndarray


def load_niqe() -> Callable[[np.ndarray], float]:
    """NIQE with the authors' statistics, which the zoo fetches where the cache lacks them.

    Returns:
        `niqe` of one image.

    Raises:
        RunError: as `zoo.fetch`.
    """
    return partial(niqe, read_pristine(zoo.fetch("niqe")))


def read_pristine(path: str | os.PathLike[str]) -> Pristine:
    """The statistics in BasicSR's file. InputError where it is not that."""
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
    """The distance of an image from good photographs, as BasicSR and the authors' MATLAB have it.

    Args:
        pristine: As `read_pristine` gives it.
        image: uint8, (H, W, 3) RGB, or (H, W), which is taken for luma as it is. What does not
            fill a block of 96x96 px, on the right and at the bottom, is left out.

    Raises:
        InputError: Other shapes or dtypes, fewer than two blocks, or fewer than two not flat.
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
    # Flat blocks are left out of the covariance. Of the mean only their undefined features are, as
    # in the original; the shapes that `_fit` gives them, the smallest, count.
    difference = pristine.mean - np.nanmean(features, axis=0)
    covariance = (pristine.covariance + np.cov(textured, rowvar=False)) / 2
    return math.sqrt(max(0.0, difference @ np.linalg.pinv(covariance) @ difference))


def _luma(image: np.ndarray) -> np.ndarray:
    """(H, W) float64 in whole levels."""
    gray = image.ndim == 2
    if image.dtype != np.uint8 or not (gray or (image.ndim == 3 and image.shape[2] == 3)):
        raise InputError(
            f"NIQE takes an image of (H, W, 3) or (H, W) uint8, got {image.shape} {image.dtype}"
        )
    return image.astype(np.float64) if gray else np.round(rgb_to_y(image))


def _blocks(luma: np.ndarray, side: int) -> np.ndarray:
    """(blocks, side + 6, side + 6): the blocks of (H, W), each with what its windows reach."""
    padded = np.pad(luma, WINDOW // 2, mode="edge")
    reach = side + WINDOW - 1
    views = np.lib.stride_tricks.sliding_window_view(padded, (reach, reach))
    return views[::side, ::side].reshape(-1, reach, reach)


def _moments(blocks: np.ndarray, window: np.ndarray) -> np.ndarray:
    """(blocks, 5, 5) of what `_blocks` gives, as `_batch_moments`."""
    # In batches of one size, so that two programs are compiled, not two for each size of image.
    padded = np.pad(blocks, ((0, -len(blocks) % BATCH), (0, 0), (0, 0)))
    batches = padded.reshape(-1, BATCH, *blocks.shape[1:])
    # In float32 half-size levels are rounded, and the signs of what that leaves in a flat area
    # count: Set14's foreman would have 5.9375 for 5.9378.
    with jax.enable_x64(True):
        moments = [np.asarray(_batch_moments(batch, window)) for batch in batches]
    return np.concatenate(moments)[: len(blocks)]


@jax.jit
def _batch_moments(blocks: jax.Array, window: jax.Array) -> jax.Array:
    """What the distributions in blocks are fitted by.

    Args:
        blocks: (N, side + 6, side + 6) in levels.
        window: (7, 7).

    Returns:
        (N, 5, 5). For the contrast-normalised luma and its products with four neighbours (in the
        block, which wraps around): the shares of negative and of positive values, then means over
        the block: of the squares of either, and of the absolute values.
    """
    reach = WINDOW // 2
    centre = blocks[:, reach:-reach, reach:-reach]

    def add(
        sums: tuple[jax.Array, jax.Array], tap: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        weight, down, right = tap
        # Differences from the centre, not levels: else the variance would be a small difference
        # of large numbers, and a flat area would have a texture of rounding errors.
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
    """The (blocks, 18) features of one scale, from what `_moments` gives: (blocks, 5, 5).

    Shape and spread of the luma, then of each product shape, mean, left and right spread.
    """
    shape, mean, left, right = _fit(moments)
    luma = np.stack([shape[:, 0], (left[:, 0] + right[:, 0]) / 2], axis=-1)
    products = np.stack([shape, mean, left, right], axis=-1)[:, 1:]
    return np.concatenate([luma, products.reshape(len(luma), -1)], axis=1)


def _fit(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Asymmetric generalised Gaussians of given moments (Lasmar, Stitou and Berthoumieu 2009).

    Args:
        moments: (..., 5).

    Returns:
        Shape, mean, left and right spread, (...) each. Where values of one sign are missing they
        are NaN, but for the shape, which is the least of the table.
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
    """The shapes that are tried, 0.2 to 10 by 0.001, and of each three ratios of Γ."""
    shapes = 0.2 + 0.001 * np.arange(9801)
    gamma1, gamma2, gamma3 = (
        np.array([math.gamma(order / shape) for shape in shapes]) for order in (1, 2, 3)
    )
    return shapes, gamma2**2 / (gamma1 * gamma3), np.sqrt(gamma1 / gamma3), gamma2 / gamma1
