"""Luma (Y of YCbCr), from which the literature computes PSNR and SSIM."""

import numpy as np


def rgb_to_y(rgb: np.ndarray) -> np.ndarray:
    """Returns the luma of ITU-R BT.601 in studio range, as MATLAB's rgb2ycbcr but not rounded.

    Args:
        rgb: (..., 3), uint8 or float in [0, 1].

    Returns:
        (...) float64 between 16 (black) and 235 (white).
    """
    rgb = rgb / 255.0 if rgb.dtype == np.uint8 else rgb.astype(np.float64)
    return rgb @ np.array([65.481, 128.553, 24.966]) + 16.0
