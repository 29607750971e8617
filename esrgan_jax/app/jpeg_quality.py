"""Estimates the quality of a JPEG from its quantization tables."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

LOSSY = 90  # below this quality, blocks become visible when upscaled

# The luminance table at quality 50, Annex K of the JPEG standard, row by row.
STANDARD = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61),
        *(12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77),
        *(24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101),
        *(72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
QUALITIES = np.arange(1, 101)
TABLE_SCALES = np.where(QUALITIES < 50, 5000 // QUALITIES, 200 - 2 * QUALITIES)
TOTALS = ((STANDARD * TABLE_SCALES[:, None] + 50) // 100).clip(1, 255).sum(axis=1)


def jpeg_quality(path: Path) -> int | None:
    """Returns the approximate quality, 1 to 100 as in libjpeg; None if it is not a JPEG."""
    try:
        with warnings.catch_warnings(), Image.open(path, formats=["JPEG"]) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            table = getattr(image, "quantization", {}).get(0)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    if not table or len(table) != 64:
        return None
    # Compares sums: other programs have tables of other shapes, and the order of the entries
    # differs between versions of Pillow.
    return 1 + int(np.abs(TOTALS - sum(table)).argmin())
