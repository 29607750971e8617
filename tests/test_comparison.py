"""Comparison images and sheets: their panels, crops, frames, labels and layout."""

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.comparison import MARGIN, Row, comparison, sheet, worst_box


def panel_of(sheet, index, count, height, width):
    """Returns the pixels of one panel of `count`, from the width of the sheet."""
    step = (sheet.shape[1] - MARGIN) // count
    left = MARGIN + step * index + (step - MARGIN) // 2 - width // 2
    return sheet[MARGIN : MARGIN + height, left : left + width]


def test_panels_show_the_images_and_smaller_ones_are_pixel_repeated(rng):
    lr = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    hr = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    sheet = comparison([("LR", lr), ("HR\n28.43 dB", hr)])
    assert sheet.dtype == np.uint8
    np.testing.assert_array_equal(panel_of(sheet, 1, 2, 80, 120), hr)
    repeated = lr.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(panel_of(sheet, 0, 2, 80, 120), repeated)


def test_box_and_zoom_crop_and_enlarge_every_panel(rng):
    lr = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    hr = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    sheet = comparison([("a", hr), ("b", lr)], box=(8, 16, 24, 40), zoom=3)
    expected = hr[8:32, 16:56].repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(panel_of(sheet, 0, 2, 72, 120), expected)
    expected = lr[2:8, 4:14].repeat(12, axis=0).repeat(12, axis=1)
    np.testing.assert_array_equal(panel_of(sheet, 1, 2, 72, 120), expected)


def test_labels_are_drawn_below_their_panels_and_do_not_overlap():
    black = np.zeros((40, 50, 3), np.uint8)
    label = "a rather long name\n20.31 dB"
    sheet = comparison([(label, black), ("", black), (label, black)])
    below = sheet[MARGIN + 40 :]
    dark_columns = (below.min(axis=(0, 2)) < 128).nonzero()[0]
    step = (sheet.shape[1] - MARGIN) // 3
    assert dark_columns.size
    assert not any(
        MARGIN + step <= x < MARGIN + 2 * step for x in dark_columns
    )  # the middle has no label
    assert dark_columns.min() >= MARGIN
    assert dark_columns.max() < sheet.shape[1] - MARGIN
    assert (below[:MARGIN] == 255).all()
    assert (sheet[-MARGIN:] == 255).all()
    two_lines, one_line = (comparison([(text, black)]).shape[0] for text in ("a\nb", "a"))
    assert two_lines > one_line


@pytest.mark.parametrize(
    ("panels", "box", "message"),
    [
        ([], None, "0 panels"),
        ([("grey", np.zeros((4, 4), np.uint8))], None, "'grey' must be"),
        ([("float", np.zeros((4, 4, 3)))], None, "'float' must be .* float64"),
        ([("a", np.zeros((40, 50, 3), np.uint8))], (0, 20, 10, 31), "not inside 40 x 50"),
        ([("a", np.zeros((40, 50, 3), np.uint8))], (0, 20, 0, 5), "not inside 40 x 50"),
    ],
)
def test_wrong_panels_and_boxes_are_refused(panels, box, message):
    with pytest.raises(InputError, match=message):
        comparison(panels, box=box)


def find_image(sheet, image):
    """Returns (top, left) of every position of a sheet at which the image occurs."""
    height, width = image.shape[:2]
    start = np.all(sheet[: -height + 1, : -width + 1] == image[0, 0], axis=2)
    positions = [(int(y), int(x)) for y, x in zip(*start.nonzero(), strict=True)]
    return [
        (y, x) for y, x in positions if np.array_equal(sheet[y : y + height, x : x + width], image)
    ]


def row_of(rng, name, size, box, labels):
    """Returns a row of a random image and a crop for each label; the first shows the box."""
    whole = rng.integers(0, 250, (*size, 3), dtype=np.uint8)
    top, left, height, width = box
    crops = [(labels[0], whole[top : top + height, left : left + width])]
    crops += [(label, rng.integers(0, 250, (height, width, 3), np.uint8)) for label in labels[1:]]
    return Row(name, whole, box, crops)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((512, 700), (300, 500, 128, 128)),
        ((321, 481), (10, 200, 64, 64)),
        ((90, 60), (20, 10, 32, 32)),
    ],
)
def test_the_frame_is_drawn_around_the_area_of_the_crops(rng, size, box):
    row = row_of(rng, "a.png", size, box, ["HR"])
    figure = sheet([row])
    red = np.all(figure == (255, 0, 0), axis=2)
    ys, xs = red.nonzero()
    line = next(n for n in range(1, 9) if not red[ys.min() + n, (xs.min() + xs.max()) // 2])
    # The whole image starts at the top margin, centred left of the first crop.
    zoom = 256 // box[2]
    enlarged = row.crops[0][1].repeat(zoom, axis=0).repeat(zoom, axis=1)
    ((top, crop_left),) = find_image(figure, enlarged)
    part = figure[MARGIN : MARGIN + 256, :crop_left]
    columns = np.flatnonzero((part != 255).any(axis=(0, 2)))
    rows = np.flatnonzero((part != 255).any(axis=(1, 2)))
    ratio = (columns.max() + 1 - columns.min()) / size[1]
    assert (rows.max() + 1) / size[0] == pytest.approx(ratio, rel=0.02)
    framed = (
        ys.min() + line - MARGIN,
        xs.min() + line - columns.min(),
        ys.max() - ys.min() + 1 - 2 * line,
        xs.max() - xs.min() + 1 - 2 * line,
    )
    assert top == MARGIN
    assert np.array(framed) / ratio == pytest.approx(box, abs=1.5 / ratio)


def test_a_frame_at_the_edge_stays_inside_the_image(rng):
    figure = sheet([row_of(rng, "a.png", (256, 256), (0, 192, 64, 64), ["HR"])])
    ys, xs = np.all(figure == (255, 0, 0), axis=2).nonzero()
    assert (ys.min(), ys.max()) == (MARGIN, MARGIN + 64 + 2)
    left = xs.max() - 255  # of the image, which ends at the right edge of the frame
    assert xs.min() == left + 192 - 3
    assert figure[MARGIN:, :left].min() == 255 or left == MARGIN


def test_crops_of_all_rows_are_aligned_and_labels_stay_in_their_columns(rng):
    labels = ["HR", "bicubic\n(20.35 / 0.6213)", "a network of a very long name, " * 2, "x"]
    boxes = {"wide.png": ((200, 900), (0, 700, 64, 64)), "tall.png": ((500, 100), (1, 2, 64, 64))}
    rows = [row_of(rng, name, *position, labels) for name, position in boxes.items()]
    rows.append(row_of(rng, "a caption that is longer than " * 2, (64, 64), (0, 0, 64, 64), labels))
    figure = sheet(rows)
    lefts = []
    for row in rows:
        crops = [crop.repeat(4, axis=0).repeat(4, axis=1) for _, crop in row.crops]
        positions = [position for crop in crops for position in find_image(figure, crop)]
        assert len(positions) == 4
        assert len({y for y, _ in positions}) == 1
        lefts.append([x for _, x in positions])
    assert lefts[0] == lefts[1] == lefts[2]
    steps = np.diff(lefts[0])
    assert len(set(steps)) == 1
    # Nothing is drawn between the columns.
    dark_columns = (figure < 128).any(axis=2).any(axis=0)
    step = int(steps[0])
    for left in lefts[0]:
        middle = left + 128
        edge = middle - (step - MARGIN) // 2
        assert not dark_columns[edge - MARGIN : edge].any()
    assert (figure[-MARGIN:] == 255).all()
    assert (figure[:, -MARGIN:] == 255).all()
    assert dark_columns[MARGIN : lefts[0][0]].any()


def test_worst_box_has_the_largest_error(rng):
    hr = rng.integers(100, 120, (70, 90, 3), dtype=np.uint8)
    worse = rng.integers(100, 120, (70, 90, 3), dtype=np.uint8)
    side = 64
    errors = {
        (top, left): float(
            np.square(
                hr[top : top + side, left : left + side].astype(float)
                - worse[top : top + side, left : left + side]
            ).sum()
        )
        for top in range(70 - side + 1)
        for left in range(90 - side + 1)
    }
    best = max(errors, key=lambda position: errors[position])
    assert worst_box(worse, hr) == (*best, side, side)
    assert worst_box(hr, hr) == (0, 0, side, side)


@pytest.mark.parametrize(
    ("size", "side"), [((384, 2000), 128), ((383, 2000), 64), ((64, 64), 64), ((63, 90), 32)]
)
def test_worst_box_fits_into_the_image(size, side):
    hr = np.zeros((*size, 3), np.uint8)
    worse = hr.copy()
    worse[-1, -1] = 255
    top, left, height, width = worst_box(worse, hr)
    assert (height, width) == (side, side)
    assert top + side == size[0]
    assert left + side == size[1]
