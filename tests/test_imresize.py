"""MATLAB's bicubic on host and device, against rational arithmetic and published results."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.images.image_file import find_images, read_image
from esrgan_jax.imresize import (
    EXACT_SCALES,
    degrade,
    imresize,
    margin,
    mod_crop,
    output_size,
    resize,
    resize_matrix,
)


def exact_levels(image: np.ndarray, scale: int) -> np.ndarray:
    """Returns the image at 1/scale, computed from the formulas in rational numbers."""

    def kernel(x: Fraction) -> Fraction:
        x = abs(x)
        if x <= 1:
            return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
        return -x * x * x / 2 + Fraction(5, 2) * x * x - 4 * x + 2 if x < 2 else Fraction(0)

    def one_axis(rows: list) -> list:
        n, result = len(rows), []
        for out in range(n // scale):
            centre = scale * (out + Fraction(1, 2)) - Fraction(1, 2)
            total = 0
            for i in range(math.floor(centre) - 2 * scale, math.ceil(centre) + 2 * scale + 1):
                inside = next(j for j in (i, -1 - i, 2 * n - 1 - i) if 0 <= j < n)
                total = total + kernel((centre - i) / scale) / scale * rows[inside]
            result.append(total)
        return result

    rows = one_axis([row.astype(object) for row in image.astype(int)])
    columns = one_axis(list(np.swapaxes(np.array(rows), 0, 1)))
    halves_up = np.vectorize(lambda v: min(max(math.floor(v + Fraction(1, 2)), 0), 255))
    return np.swapaxes(halves_up(np.array(columns)), 0, 1)


def with_margin(hr: np.ndarray, scale: int) -> np.ndarray:
    m = margin(scale)
    return np.pad(hr, ((m, m), (m, m), (0, 0)), "symmetric")


def device_levels(hr: np.ndarray, scale: int) -> np.ndarray:
    return np.round(np.asarray(jax.jit(degrade, static_argnums=1)(hr, scale)) * 255).astype(int)


@pytest.mark.parametrize("name", ["baboon", "comic"])
def test_results_equal_the_official_lr_files(shared_data, name):
    hr = mod_crop(read_image(shared_data / "set14" / f"{name}.png"), 4)
    official = read_image(shared_data / "official" / f"LR_{name}.png")
    np.testing.assert_array_equal(imresize(hr, 1 / 4), official)
    np.testing.assert_array_equal(device_levels(with_margin(hr, 4)[None], 4)[0], official)


@pytest.mark.parametrize(("name", "published"), [("set5", 28.43), ("set14", 26.09)])
def test_bicubic_has_the_published_psnr(shared_data, name, published):
    luma = np.array([65.481, 128.553, 24.966]) / 255
    values = []
    for path in find_images(shared_data / name):
        hr = mod_crop(read_image(path), 4)
        up = imresize(imresize(hr, 1 / 4), 4)
        error = ((hr.astype(float) - up) @ luma)[4:-4, 4:-4]
        values.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert np.mean(values) == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_host_and_device_equal_rational_arithmetic(rng, scale):
    # Black and white columns give overshoot, clipping and ties.
    hr = rng.integers(0, 256, (4 * scale, 5 * scale, 3), dtype=np.uint8)
    hr[:, ::2] = np.where(hr[:, ::2] > 127, 255, 0)
    expected = exact_levels(hr, scale)
    np.testing.assert_array_equal(imresize(hr, 1 / scale), expected)
    np.testing.assert_array_equal(imresize(hr, Fraction(1, scale)), expected)
    np.testing.assert_array_equal(device_levels(with_margin(hr, scale)[None], scale)[0], expected)


@pytest.mark.parametrize("scale", EXACT_SCALES)
@pytest.mark.parametrize("content", ["noise", "black and white", "white"])
def test_a_degraded_patch_is_the_crop_of_the_degraded_image(rng, scale, content):
    hr = rng.integers(0, 256, (24 * 8, 24 * 9, 3), dtype=np.uint8)
    hr = {"noise": hr, "black and white": hr // 128 * 255, "white": hr | 255}[content]
    whole, m, p = imresize(hr, 1 / scale), margin(scale), 6
    padded = with_margin(hr, scale)
    last_row, last_column = (side // scale - p for side in hr.shape[:2])
    positions = [(i, j) for i in (0, 3, last_row) for j in (0, 5, last_column)]
    size = p * scale + 2 * m
    patches = [
        padded[scale * i : scale * i + size, scale * j : scale * j + size] for i, j in positions
    ]
    expected = [whole[i : i + p, j : j + p] for i, j in positions]
    np.testing.assert_array_equal(device_levels(np.stack(patches), scale), np.stack(expected))


def test_host_and_device_give_the_same_lr_of_photographs(shared_data):
    for scale in (2, 3, 4, 8):
        for name in ("monarch", "ppt3", "zebra"):
            hr = mod_crop(read_image(shared_data / "set14" / f"{name}.png"), scale)
            levels = device_levels(with_margin(hr, scale)[None], scale)[0]
            np.testing.assert_array_equal(levels, imresize(hr, 1 / scale))


def test_degrade_returns_multiples_of_1_255(rng):
    hr = rng.integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    lr = degrade(jnp.asarray(hr), 4)
    assert lr.shape == (2, 8, 12, 3)
    assert lr.dtype == jnp.float32
    levels = np.round(np.asarray(lr) * 255).astype(np.float32)
    # XLA may multiply by 1/255 instead of dividing, which changes the last bit.
    np.testing.assert_array_max_ulp(np.asarray(lr), levels / np.float32(255), maxulp=1)


@pytest.mark.parametrize("shape", [(1, 46, 48, 3), (1, 16, 48, 3)])
def test_degrade_refuses_wrong_patch_sizes_and_scales(shape):
    with pytest.raises(ValueError, match="margin of 8 pixels"):
        degrade(jnp.zeros(shape, jnp.uint8), 4)
    with pytest.raises(ValueError, match="scale is 16"):
        degrade(jnp.zeros(shape, jnp.uint8), 16)


@pytest.mark.parametrize("scale", [1 / 8, 1 / 4, 1 / 3, 1 / 2, 0.7, 1, 1.5, 2, 3, 4, 8])
def test_resize_on_device_equals_imresize(rng, scale):
    image = rng.random((2, 31, 17, 3))
    expected = np.stack([imresize(one, scale) for one in image])
    result = jax.jit(resize, static_argnums=1)(image.astype(np.float32), scale)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("scale", [1 / 8, 1 / 3, 0.7, 1, 2, 3])
def test_matrix_rows_sum_to_one_and_are_symmetric(scale):
    out = output_size(48, scale)
    matrix = resize_matrix(48, out, scale)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-14)
    if out == 48 * scale:
        np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-14)


def test_upscaling_keeps_ramps_and_scale_1_keeps_the_image(rng):
    ramp = np.broadcast_to(np.arange(32.0)[:, None], (32, 32))
    up = imresize(ramp, 2)[8:-8, 8:-8]
    np.testing.assert_allclose(up[:, 0], (np.arange(64) / 2 - 0.25)[8:-8], atol=1e-12)
    image = rng.random((5, 7, 3))
    np.testing.assert_array_equal(imresize(image, 1), image)


@pytest.mark.parametrize(
    ("size", "scale", "expected"), [(3, 1 / 3, 1), (300, 1 / 3, 100), (10, 1 / 4, 3), (7, 0.1, 1)]
)
def test_output_size_rounds_up_after_removing_float_error(size, scale, expected):
    assert output_size(size, scale) == expected


def test_mod_crop_cuts_bottom_and_right():
    image = np.arange(7 * 9).reshape(7, 9, 1)
    np.testing.assert_array_equal(mod_crop(image, 4), image[:4, :8])
    np.testing.assert_array_equal(mod_crop(image, 1), image)
