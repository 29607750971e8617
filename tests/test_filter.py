"""Filtering of images on a canvas next to OpenCV."""

import cv2
import jax
import numpy as np
import pytest

from esrgan_jax.degradation.filter import filter2d
from esrgan_jax.degradation.kernels import SIZE, pulse

filtered = jax.jit(filter2d)


@pytest.mark.parametrize("size", [(40, 53), (11, 31), (7, 4), (1, 2)])
def test_filter_is_that_of_opencv_at_any_size_on_a_canvas(rng, size):
    canvas = rng.random((40, 53, 3), np.float32)
    kernel = rng.random((SIZE, SIZE), np.float32)
    kernel /= kernel.sum()
    image = np.ascontiguousarray(canvas[: size[0], : size[1]])
    expected = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    ours = np.asarray(filtered(canvas, kernel, *size))[: size[0], : size[1]]
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_a_pulse_changes_nothing(rng):
    image = rng.random((40, 53, 3), np.float32)
    np.testing.assert_array_equal(filtered(image, pulse(), 40, 53), image)
