"""PSNR and SSIM as the super-resolution literature computes them, in float64 on the host.

Every paper's table (arXiv 1809.00219, supplement, Table 2) is made this way: pictures of 8 bits,
a border of `scale` pixels left out, luma by MATLAB's constants and not rounded.
"""

import math
from typing import Any

import numpy as np
from skimage.metrics import structural_similarity

from esrgan_jax.errors import InputError

SSIM_WINDOW = 11


def rgb_to_y(rgb: np.ndarray) -> np.ndarray:
    """Luma of ITU-R BT.601 in studio range, as MATLAB's rgb2ycbcr, not rounded.

    Args:
        rgb: (..., 3), uint8 or float in [0, 1].

    Returns:
        (...) float64 between 16 (black) and 235 (white).
    """
    rgb = rgb / 255.0 if rgb.dtype == np.uint8 else rgb.astype(np.float64)
    return rgb @ np.array([65.481, 128.553, 24.966]) + 16.0


def crop_border(image: np.ndarray, border: int) -> np.ndarray:
    """(H, W, ...) without `border` pixels on each side; InputError where nothing would be left."""
    height, width = image.shape[:2]
    if 2 * border >= min(height, width):
        raise InputError(
            f"a picture of {width}x{height} px has nothing inside a border of {border} px; "
            "score a larger picture or leave out a narrower border"
        )
    return image[border : height - border, border : width - border]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """10 log10(255² / MSE) in dB over all samples, which lie in 0..255; inf for equal pictures."""
    _check_shapes(a, b)
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255.0**2 / error))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of (H, W) or (H, W, C) in 0..255; 1 is equality.

    The authors' MATLAB settings: Gaussian window of 11x11 with sigma 1.5, its weighted (biased)
    variances, the region where the window fits; the mean over channels.
    """
    _check_shapes(a, b)
    height, width = a.shape[:2]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs {SSIM_WINDOW}x{SSIM_WINDOW} px or more inside the border, "
            f"got {width}x{height}; score a larger picture"
        )
    value: Any = structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if a.ndim == 3 else None,
    )
    return float(value)


def scores(sr: np.ndarray, hr: np.ndarray, border: int) -> dict[str, float]:
    """The three scores of a super-resolved picture.

    Args:
        sr: (H, W, 3) uint8, the result.
        hr: (H, W, 3) uint8, the truth.
        border: Pixels left out on each side; papers take the scale.

    Returns:
        `psnr_y` and `psnr_rgb` in dB, `ssim_y` up to 1.
    """
    _check_shapes(sr, hr)
    sr, hr = crop_border(sr, border), crop_border(hr, border)
    sr_y, hr_y = rgb_to_y(sr), rgb_to_y(hr)
    return {"psnr_y": psnr(sr_y, hr_y), "ssim_y": ssim(sr_y, hr_y), "psnr_rgb": psnr(sr, hr)}


def _check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise InputError(
            f"pictures of shapes {a.shape} and {b.shape} cannot be compared; "
            "bring them to one size first"
        )
