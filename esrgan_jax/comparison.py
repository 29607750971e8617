"""Pictures side by side under their names, as the figures of super-resolution papers show them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from esrgan_jax.errors import InputError

MARGIN = 12
SMALLEST_FONT = 10


def comparison(
    panels: Sequence[tuple[str, np.ndarray]],
    *,
    box: tuple[int, int, int, int] | None = None,
    zoom: int = 1,
) -> np.ndarray:
    """Labelled panels of one size in a row on white.

    Args:
        panels: (label, picture) pairs; a label may have several lines, such as a name and a
            score, in Latin letters (Pillow's font has no others: "x4", "alpha"); a picture is
            (H, W, 3) uint8. All are brought to the largest picture's size by
            nearest neighbour, so the LR panel shows its pixels. Pictures are taken to show the
            same scene, sizes apart.
        box: (top, left, height, width) in pixels of the largest picture: shows this part alone.
        zoom: Every pixel of the largest picture as zoom x zoom pixels.

    Returns:
        (H', W', 3) uint8.

    Raises:
        InputError: no panels, a picture of another kind, a box outside the picture.
    """
    if not panels or zoom < 1:
        raise InputError(f"a comparison of {len(panels)} panels at zoom {zoom}: give one or more")
    for label, picture in panels:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise InputError(
                f"panel {label!r} must be (H, W, 3) uint8, got {picture.shape} {picture.dtype}"
            )
    full_height, full_width = max((picture.shape[:2] for _, picture in panels), key=np.prod)
    top, left, height, width = box or (0, 0, full_height, full_width)
    inside = 0 <= top < top + height <= full_height and 0 <= left < left + width <= full_width
    if not inside:
        raise InputError(
            f"box {box} (top, left, height, width) is not inside {full_height} x {full_width} px"
        )

    font = _font([label for label, _ in panels], width * zoom)
    sizes = [_text_size(label, font) for label, _ in panels]
    column = max(width * zoom, *(label_width for label_width, _ in sizes))
    label_height = max(label_height for _, label_height in sizes)
    step = column + MARGIN
    sheet = Image.new(
        "RGB", (MARGIN + step * len(panels), height * zoom + label_height + 3 * MARGIN), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for index, (label, picture) in enumerate(panels):
        y_ratio, x_ratio = picture.shape[0] / full_height, picture.shape[1] / full_width
        part = (left * x_ratio, top * y_ratio, (left + width) * x_ratio, (top + height) * y_ratio)
        panel = Image.fromarray(picture).resize(
            (width * zoom, height * zoom), Image.Resampling.NEAREST, box=part
        )
        middle = MARGIN + step * index + column // 2
        sheet.paste(panel, (middle - width * zoom // 2, MARGIN))
        below = (middle, height * zoom + 2 * MARGIN)
        draw.multiline_text(below, label, fill="black", font=font, anchor="ma", align="center")
    return np.asarray(sheet)


def _font(labels: Sequence[str], width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, as large as the widest label allows, so no system font is needed."""
    size = max(SMALLEST_FONT, width // 12)
    while size > SMALLEST_FONT:
        font = ImageFont.load_default(size)
        if max(_text_size(label, font)[0] for label in labels) <= width:
            return font
        size -= 1
    return ImageFont.load_default(size)


def _text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    _, _, right, bottom = draw.multiline_textbbox((0, 0), text, font=font)
    return round(right), round(bottom)
