"""The sheet's panels hold the pictures' own pixels, its labels stay in their columns."""

import numpy as np
import pytest

from esrgan_jax.comparison import MARGIN, comparison
from esrgan_jax.errors import InputError


def panel_of(sheet, index, count, height, width):
    """The pixels of one panel, found from the sheet's size alone."""
    step = (sheet.shape[1] - MARGIN) // count
    left = MARGIN + step * index + (step - MARGIN) // 2 - width // 2
    return sheet[MARGIN : MARGIN + height, left : left + width]


def test_panels_are_the_pictures_and_lr_shows_its_pixels(rng):
    lr = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    hr = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    sheet = comparison([("LR", lr), ("HR\n28.43 dB", hr)])
    assert sheet.dtype == np.uint8
    np.testing.assert_array_equal(panel_of(sheet, 1, 2, 80, 120), hr)
    repeated = lr.repeat(4, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(panel_of(sheet, 0, 2, 80, 120), repeated)


def test_box_and_zoom_show_one_part_larger(rng):
    lr = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    hr = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    sheet = comparison([("a", hr), ("b", lr)], box=(8, 16, 24, 40), zoom=3)
    expected = hr[8:32, 16:56].repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(panel_of(sheet, 0, 2, 72, 120), expected)
    expected = lr[2:8, 4:14].repeat(12, axis=0).repeat(12, axis=1)
    np.testing.assert_array_equal(panel_of(sheet, 1, 2, 72, 120), expected)


def test_labels_are_drawn_below_on_white_and_apart():
    black = np.zeros((40, 50, 3), np.uint8)
    label = "a rather long name\n20.31 dB"
    sheet = comparison([(label, black), ("", black), (label, black)])
    below = sheet[MARGIN + 40 :]
    inked = (below.min(axis=(0, 2)) < 128).nonzero()[0]
    step = (sheet.shape[1] - MARGIN) // 3
    assert inked.size
    assert not any(MARGIN + step <= x < MARGIN + 2 * step for x in inked)  # the middle has no label
    assert inked.min() >= MARGIN
    assert inked.max() < sheet.shape[1] - MARGIN
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
def test_unusable_input_is_explained(panels, box, message):
    with pytest.raises(InputError, match=message):
        comparison(panels, box=box)
