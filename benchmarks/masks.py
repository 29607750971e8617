"""Masks whose true shape is known at any size: circles, text and hair, drawn large and reduced."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINE = 8  # subpixels of a pixel of the truth, on each axis


def drawn(kind: str, side: int, unit: int) -> np.ndarray:
    """A shape as (side unit, side unit) bool, `unit` subpixels for an LR pixel.

    Args:
        kind: "circle", "ring", "text" or "hair".
        side: In LR pixels.
        unit: Subpixels of an LR pixel, on each axis.
    """
    size = side * unit
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    if kind in ("circle", "ring"):
        rows, columns = np.mgrid[:size, :size] + 0.5
        radius = np.hypot(rows - (side / 2 + 0.23) * unit, columns - (side / 2 - 0.31) * unit)
        inner = 0.2 if kind == "ring" else 0.0
        return (radius < 0.38 * side * unit) & (radius >= inner * side * unit)
    if kind == "text":
        font = ImageFont.load_default(round(0.42 * side * unit))
        for row, text in enumerate(("Ag8", "k&e")):
            place = (0.06 * side * unit, (0.02 + 0.46 * row) * side * unit)
            draw.text(place, text, font=font, fill=255)
        return np.asarray(image) > 127
    rng, t = np.random.default_rng(3), np.linspace(0, 1, 100)[:, None]
    for _ in range(6):
        a, b, c = rng.uniform(0, size, (3, 2))
        curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        width = max(round(rng.uniform(1.2, 2.2) * unit), 1)
        draw.line([tuple(point) for point in curve], fill=255, width=width, joint="curve")
    return np.asarray(image) > 127


def pair(kind: str, edge: str, scale: int, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """An LR mask and its truth at `scale`, float32 in [0, 1], the LR one of 256 levels.

    Args:
        kind: As for `drawn`.
        edge: "hard" is covered by half or not, "soft" the part that is covered, and "blurred" a
            Gaussian of 1.5 LR pixels beside. The truth of a hard edge is not hard, but "harder"
            is both.
        scale: Of the truth.
        side: In LR pixels.
    """
    truth = reduced(drawn(kind, side, scale * FINE), FINE)
    if edge == "blurred":
        taps = np.exp(-((np.arange(-5 * scale, 5 * scale + 1) / (1.5 * scale)) ** 2) / 2)
        for _ in range(2):  # the rows, then the columns
            padded = np.pad(truth, ((5 * scale, 5 * scale), (0, 0)), "edge")
            rows = np.lib.stride_tricks.sliding_window_view(padded, len(taps), axis=0)
            truth = (rows @ (taps / taps.sum())).T
    lr = reduced(truth, scale)
    if edge in ("hard", "harder"):
        lr = (lr >= 0.5) * 1.0
    truth = (truth >= 0.5) * 1.0 if edge == "harder" else truth
    return (np.rint(lr * 255) / 255).astype(np.float32), truth.astype(np.float32)


def reduced(mask: np.ndarray, factor: int) -> np.ndarray:
    """The mean of every block of factor² pixels."""
    height, width = (side // factor for side in mask.shape)
    return mask.reshape(height, factor, width, factor).mean((1, 3))
