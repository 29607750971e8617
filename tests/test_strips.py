"""Tests of strips: resizing without the whole image, reading ahead, and errors of readers."""

import threading
import time

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.imresize import imresize
from esrgan_jax.upscaling import strips as strips_module
from esrgan_jax.upscaling.strips import Strips, prefetched, quantized, resized


def cut(image, *heights):
    """Returns an iterator over strips of the given heights; the last height repeats."""
    top, strips = 0, []
    for height in (*heights, *[heights[-1]] * len(image)):
        if top < len(image):
            strips.append(image[top : top + height])
            top += height
    return iter(strips)


@pytest.mark.parametrize("heights", [(1,), (3, 1, 7), (1000,)])
@pytest.mark.parametrize(
    ("size", "new_size"),
    [((40, 30), (20, 15)), ((41, 37), (13, 50)), ((30, 30), (77, 31)), ((50, 7), (1, 1)),
     ((1, 1), (3, 4)), ((64, 64), (64, 16)), ((33, 20), (32, 19))],
)  # fmt: skip
def test_resized_strips_equal_the_resized_image(rng, size, new_size, heights):
    image = rng.uniform(0, 1, (*size, 3)).astype(np.float32)
    strips = list(resized(cut(image, *heights), size, new_size))
    result = np.concatenate(strips)
    assert result.shape == (*new_size, 3)
    if new_size[0] / size[0] == new_size[1] / size[1]:
        expected = imresize(image, new_size[0] / size[0])
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    # Against the matrices of each axis, with which `imresize` itself is tested.
    from esrgan_jax.imresize import resize_matrix

    rows, columns = (
        resize_matrix(before, after, after / before)
        for before, after in zip(size, new_size, strict=True)
    )
    expected = np.einsum("oh,hwc,pw->opc", rows, image.astype(float), columns)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_large_resized_strips_are_split(rng, monkeypatch):
    """The input is one strip, whose result is many times as large."""
    monkeypatch.setattr(strips_module, "LARGEST_STRIP", 2000)
    image = rng.uniform(0, 1, (20, 10, 1)).astype(np.float32)
    strips = list(resized(iter([image]), (20, 10), (160, 80)))
    assert max(strip.size for strip in strips) <= 2000
    np.testing.assert_allclose(np.concatenate(strips), imresize(image, 8), rtol=0, atol=1e-5)


@pytest.mark.parametrize("new_size", [(500, 10), (2000, 10), (70, 10)])
def test_resizing_keeps_only_a_few_rows(rng, new_size):
    """Rows are yielded as soon as the rows that they depend on have been read."""
    lags = []
    read = 0

    def rows():
        nonlocal read
        for _ in range(1000):
            read += 1
            yield rng.uniform(0, 1, (1, 10, 1)).astype(np.float32)

    written = 0
    for strip in resized(rows(), (1000, 10), new_size):
        written += len(strip)
        lags.append(read - written * 1000 / new_size[0])
    assert written == new_size[0]
    assert max(lags) < 3 * max(1, 1000 / new_size[0]) + 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_quantizing_rounds_half_to_even_and_clamps(dtype):
    values = np.array([-0.5, 0, 0.5 / 255, 1.5 / 255, 2.5 / 255, 1, 1.5], np.float32)
    (result,) = quantized(iter([values.reshape(1, -1, 1)]), np.dtype(dtype))
    assert result.dtype == dtype
    if dtype == np.float32:
        np.testing.assert_array_equal(result.ravel(), values.clip(0, 1))
    else:
        peak = np.iinfo(dtype).max
        np.testing.assert_array_equal(result.ravel(), np.rint(values.clip(0, 1) * np.float32(peak)))


def image(key, rows, height=4):
    return Strips(height, 2, 1, np.dtype("uint8"), iter(rows), np.dtype("uint8"), key=key)


ROW = np.zeros((1, 2, 1), np.uint8)


def test_images_keep_their_order_even_if_some_are_not_read():
    images = [image(key, [ROW + key] * 4) for key in range(5)]
    seen = []
    for strips in prefetched(images):
        if strips.key % 2:  # half of them are left unread
            seen.append((strips.key, None))
            continue
        seen.append((strips.key, [int(row[0, 0, 0]) for row in strips.rows]))
    assert seen == [(0, [0] * 4), (1, None), (2, [2] * 4), (3, None), (4, [4] * 4)]


def test_an_error_is_raised_by_the_rows_of_its_image():
    def broken():
        yield ROW
        raise InputError("the file is cut off")

    got = []
    for strips in prefetched([image(0, [ROW] * 4), image(1, broken()), image(2, [ROW] * 4)]):
        try:
            got.append(len(list(strips.rows)))
        except InputError as error:
            got.append(str(error))
    assert got == [4, "the file is cut off", 4]


def test_an_error_between_images_is_raised():
    def images():
        yield image(0, [ROW] * 4)
        raise InputError("no further")

    reading = prefetched(images())
    next(reading)
    with pytest.raises(InputError, match="no further"):
        next(reading)


def test_reading_ahead_is_bounded_and_stops_when_closed():
    read = []

    def rows():
        for index in range(1000):
            read.append(index)
            yield ROW

    before = threading.active_count()
    images = prefetched([image(0, rows(), height=1000)], ahead=8)
    strips = next(images)
    next(strips.rows)
    deadline = time.monotonic() + 5
    while len(read) < 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert 9 <= len(read) <= 11
    images.close()
    assert threading.active_count() == before
