"""Figures with labelled images side by side, as in super-resolution papers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from esrgan_jax.errors import InputError

MARGIN = 12
SMALLEST_FONT = 10
PANEL = 256  # the side of a crop in a sheet, after magnification
WHOLE = (384, PANEL)  # the largest (width, height) of a whole image in a sheet
FRAME_WIDTH = 3


def comparison(
    panels: Sequence[tuple[str, np.ndarray]],
    *,
    box: tuple[int, int, int, int] | None = None,
    zoom: int = 1,
) -> np.ndarray:
    """Draws labelled images of one scene side by side on white.

    Args:
        panels: (label, image) pairs. A label may have several lines, such as a name and a score,
            in Latin letters only, since Pillow's font has no others. An image is (H, W, 3) uint8.
            All are resized to the largest one by nearest neighbour, so the pixels of LR are seen.
        box: (top, left, height, width) of the part to show, in pixels of the largest image.
        zoom: Each pixel of the largest image is drawn as zoom x zoom pixels.

    Returns:
        (H', W', 3) uint8.

    Raises:
        InputError: There are no panels, an image has another shape or dtype, or the box is not
            inside the image.
    """
    if not panels or zoom < 1:
        raise InputError(
            f"a comparison needs one panel or more and a zoom of 1 or more, got {len(panels)} "
            f"panels and zoom {zoom}"
        )
    for label, image in panels:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(
                f"panel {label!r} must be (H, W, 3) uint8, got {image.shape} {image.dtype}"
            )
    full_height, full_width = max((image.shape[:2] for _, image in panels), key=np.prod)
    top, left, height, width = box = box or (0, 0, full_height, full_width)
    check_box(box, full_height, full_width)

    font = _font([label for label, _ in panels], width * zoom)
    shown = []
    for label, image in panels:
        y_ratio, x_ratio = image.shape[0] / full_height, image.shape[1] / full_width
        part = (left * x_ratio, top * y_ratio, (left + width) * x_ratio, (top + height) * y_ratio)
        panel = Image.fromarray(image).resize(
            (width * zoom, height * zoom), Image.Resampling.NEAREST, box=part
        )
        shown.append((label, panel))
    column = max(width * zoom, *(_text_size(label, font)[0] for label, _ in panels))
    return _in_a_row(shown, [column] * len(shown), font)


class Row(NamedTuple):
    """One image of a sheet.

    Attributes:
        caption: The text below the whole image.
        whole: (H, W, 3) uint8.
        box: (top, left, height, width), the part of `whole` that the crops show.
        crops: Pairs of a label and a (height, width, 3) uint8 crop. Its sides divide PANEL.
    """

    caption: str
    whole: np.ndarray
    box: tuple[int, int, int, int]
    crops: list[tuple[str, np.ndarray]]


def sheet(rows: Sequence[Row]) -> np.ndarray:
    """Draws one row for each image: the whole image and magnified crops of several methods.

    As in papers (arXiv 1809.00219, Fig. 7): the whole image is on the left, reduced, with a red
    frame around the part that the crops show.

    Returns:
        (H, W, 3) uint8; all rows have the same layout.
    """
    labels = [label for row in rows for label, _ in row.crops]
    font = _font(labels, PANEL - 2 * MARGIN)
    column = max(PANEL, *(_text_size(label, font)[0] for label in labels))
    wholes = [_framed(row.whole, row.box) for row in rows]
    first = max(
        *(whole.width for whole in wholes), *(_text_size(row.caption, font)[0] for row in rows)
    )
    parts = []
    for row, whole in zip(rows, wholes, strict=True):
        crops = [
            (label, Image.fromarray(crop).resize((PANEL, PANEL), Image.Resampling.NEAREST))
            for label, crop in row.crops
        ]
        columns = [first, *(column for _ in crops)]
        parts.append(_in_a_row([(row.caption, whole), *crops], columns, font))
    return np.concatenate(parts)


def check_box(box: tuple[int, int, int, int], height: int, width: int) -> None:
    """Raises InputError if a box (top, left, height, width) is not inside an image of this size."""
    top, left, rows, columns = box
    if not (0 <= top < top + rows <= height and 0 <= left < left + columns <= width):
        raise InputError(
            f"box {box} (top, left, height, width) is not inside {height} x {width} px"
        )


def worst_box(result: np.ndarray, hr: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the square in which a result has the largest squared error.

    Args:
        result: (H, W, 3) uint8, such as bicubic.
        hr: (H, W, 3) uint8.

    Returns:
        (top, left, side, side), of equal squares the first. The side is a power of two that
        divides PANEL: 128 in large images, else 64, or less if the image is smaller.
    """
    shorter = min(hr.shape[:2])
    side = PANEL // 2 if shorter >= 3 * PANEL // 2 else PANEL // 4
    while side > shorter:
        side //= 2
    error = ((hr.astype(np.int64) - result) ** 2).sum(axis=2)
    total = np.pad(error.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # above and to the left of a point
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left), side, side


def _framed(image: np.ndarray, box: tuple[int, int, int, int]) -> Image.Image:
    """Returns the image resized to fit WHOLE, with a frame around the box, cut at the edges."""
    height, width = image.shape[:2]
    ratio = min(WHOLE[0] / width, WHOLE[1] / height)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    canvas = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    top, left, box_height, box_width = (round(side * ratio) for side in box)
    corners = (
        max(left - FRAME_WIDTH, 0),
        max(top - FRAME_WIDTH, 0),
        min(left + box_width + FRAME_WIDTH, size[0]) - 1,
        min(top + box_height + FRAME_WIDTH, size[1]) - 1,
    )
    ImageDraw.Draw(canvas).rectangle(corners, outline="red", width=FRAME_WIDTH)
    return canvas


def _in_a_row(
    panels: Sequence[tuple[str, Image.Image]],
    columns: Sequence[int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> np.ndarray:
    """Draws images in columns of the given widths on white, with their labels below."""
    height = max(image.height for _, image in panels)
    label_height = max(_text_size(label, font)[1] for label, _ in panels)
    size = (MARGIN + sum(columns) + MARGIN * len(columns), height + label_height + 3 * MARGIN)
    row = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(row)
    left = MARGIN
    for (label, image), column in zip(panels, columns, strict=True):
        middle = left + column // 2
        row.paste(image, (middle - image.width // 2, MARGIN))
        below = (middle, height + 2 * MARGIN)
        draw.multiline_text(below, label, fill="black", font=font, anchor="ma", align="center")
        left += column + MARGIN
    return np.asarray(row)


def _font(labels: Sequence[str], width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns Pillow's built-in font, as large as the widest label allows in `width` pixels."""
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
