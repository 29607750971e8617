"""Masks with a known shape at any size: circles, text and hair, drawn large and reduced."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FINE = 8  # subpixels of a pixel of the truth, on each axis


def drawn(kind: str, side: int, unit: int) -> np.ndarray:
    """Draws a shape as (side unit, side unit) bool, `unit` subpixels for an LR pixel.

    Args:
        kind: "circle", "ring", "text" or "hair"; or with a length in LR pixels a "circle" of that
            radius, a "square" of half that side, "lines" at twelve angles or "hair" of that width;
            or a "wedge" with the angle of its edge in degrees.
        side: In LR pixels.
        unit: Subpixels of an LR pixel, on each axis.
    """
    size = side * unit
    kind, _, length = kind.partition(" ")
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    rows, columns = np.mgrid[:size, :size] + 0.5
    y, x = rows / unit - side / 2 - 0.23, columns / unit - side / 2 + 0.31
    if kind == "wedge":
        turn = np.deg2rad(float(length))
        return x * np.cos(turn) + y * np.sin(turn) < 0
    if length and kind in ("circle", "square"):
        return (np.hypot(x, y) if kind == "circle" else np.maximum(abs(x), abs(y))) < float(length)
    if kind in ("circle", "ring"):
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
    for line in range(12 if kind == "lines" else 6):
        if kind == "lines":  # from a circle around the middle outward
            turn = np.deg2rad(30 * line + 7)
            curve = (0.5 + (0.2 + 0.27 * t) * [np.cos(turn), np.sin(turn)]) * size
        else:
            a, b, c = rng.uniform(0, size, (3, 2))
            curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        wide = float(length) if length else rng.uniform(1.2, 2.2)
        width = max(round(wide * unit), 1)
        draw.line([tuple(point) for point in curve], fill=255, width=width, joint="curve")
    return np.asarray(image) > 127


def pair(kind: str, edge: str | float, scale: int, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Returns an LR mask of 256 levels and its truth at `scale`, float32 in [0, 1].

    Args:
        kind: As for `drawn`.
        edge: "hard" is covered by half or not, "soft" the part that is covered, and a number
            that with a Gaussian blur of so many LR pixels, "blurred" of 1.5. The truth of a hard
            edge is not hard, but that of "harder" is.
        scale: Of the truth.
        side: In LR pixels.
    """
    truth = reduced(drawn(kind, side, scale * FINE), FINE)
    edge = 1.5 if edge == "blurred" else edge
    if not isinstance(edge, str):
        taps = np.exp(-((np.arange(-5 * scale, 5 * scale + 1) / (edge * scale)) ** 2) / 2)
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
    """Returns the mean of every block of factor² pixels."""
    height, width = (side // factor for side in mask.shape)
    return mask.reshape(height, factor, width, factor).mean((1, 3))
