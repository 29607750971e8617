"""Tests of random crops and augmentation."""

from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest

from esrgan_jax.data.transforms import augment, crop, random_crop
from esrgan_jax.imresize import degrade, imresize, margin, mod_crop


def coordinates(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, rows ^ columns], axis=-1)


def test_crops_are_mirrored_beyond_the_border():
    image = coordinates(20, 30)
    padded = np.pad(image, ((8, 8), (8, 8), (0, 0)), "symmetric")
    for top, left in [(0, 0), (0, 20), (10, 0), (10, 20), (5, 9), (8, 12)]:
        expected = padded[top : top + 26, left : left + 26]
        np.testing.assert_array_equal(crop(image, top, left, 10, 8), expected)


def test_mirroring_repeats_for_an_image_smaller_than_the_margin():
    image = coordinates(6, 5)
    padded = np.pad(image, ((16, 16), (16, 16), (0, 0)), "symmetric")
    np.testing.assert_array_equal(crop(image, 0, 0, 5, 16), padded[:37, :37])


def test_a_crop_reads_no_other_pixels():
    class Recorded:
        shape = (41, 63, 3)

        def __getitem__(self, window: tuple[slice, slice]):
            windows.append(window)
            return image[window]

    windows, image = [], coordinates(41, 63)
    inner = image[:40, :60]
    padded = np.pad(inner, ((8, 8), (8, 8), (0, 0)), "symmetric")
    for top, left, rows, columns in (
        (0, 12, slice(0, 18), slice(4, 30)),
        (30, 50, slice(22, 40), slice(42, 60)),
        (12, 24, slice(4, 30), slice(16, 42)),
    ):
        source: Any = Recorded()
        cropped = crop(source, top, left, 10, 8, multiple=4)
        np.testing.assert_array_equal(cropped, padded[top : top + 26, left : left + 26])
        assert windows.pop() == (rows, columns)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_patches_are_uniform_over_the_lr_grid(rng, scale):
    hr_patch, m = 4 * scale, margin(scale)
    hr = coordinates(7 * scale + scale - 1, 6 * scale + 1)
    seen = Counter()
    for _ in range(400):
        patch = random_crop({"hr": hr}, rng, scale=scale, hr_patch=hr_patch)["hr"]
        assert patch.shape == (hr_patch + 2 * m, hr_patch + 2 * m, 3)
        seen[tuple(int(v) for v in patch[m, m, :2])] += 1
    assert set(seen) == {(scale * i, scale * j) for i in range(4) for j in range(3)}
    assert min(seen.values()) > 10  # 33 expected


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_degraded_patches_are_crops_of_the_lr_image(rng, scale):
    hr = rng.integers(0, 256, (61, 53, 3), dtype=np.uint8)
    lr = imresize(mod_crop(hr, scale), 1 / scale)
    views = np.lib.stride_tricks.sliding_window_view(lr, (6, 6), axis=(0, 1))
    windows = {np.moveaxis(view, 0, -1).tobytes() for view in views.reshape(-1, 3, 6, 6)}
    patches = [
        random_crop({"hr": hr}, rng, scale=scale, hr_patch=6 * scale)["hr"] for _ in range(40)
    ]
    levels = np.asarray(jax.jit(degrade, static_argnums=1)(np.stack(patches), scale)) * 255
    for level in np.round(levels).astype(np.uint8):
        assert level.tobytes() in windows


def test_pairs_are_cropped_together(rng):
    hr = coordinates(50, 42)
    lr = hr[:48:4, :40:4]
    for _ in range(50):
        pair = random_crop({"lr": lr, "hr": hr}, rng, scale=4, hr_patch=24)
        assert pair["lr"].shape == (6, 6, 3)
        np.testing.assert_array_equal(pair["hr"][::4, ::4], pair["lr"])


def test_augmentation_is_uniform_over_eight_symmetries(rng):
    image = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    square = {
        np.ascontiguousarray(np.rot90(flipped, turns)).tobytes()
        for flipped in (image, image[::-1])
        for turns in range(4)
    }
    counts = Counter(augment({"hr": image}, rng)["hr"].tobytes() for _ in range(1600))
    assert set(counts) == square
    assert len(square) == 8
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 24.3  # chi², p = 0.001


def test_augmentation_changes_lr_and_hr_alike(rng):
    hr = coordinates(24, 24)
    for _ in range(20):
        pair = augment({"lr": hr[::4, ::4], "hr": hr}, rng)
        # A rotation moves the pixels of a 4 x 4 block but not its block.
        blocks = pair["hr"] // 4 * 4
        np.testing.assert_array_equal(blocks[::4, ::4, :2], pair["lr"][..., :2] // 4 * 4)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_degrading_commutes_with_flips_and_transposition(rng, scale):
    hr = rng.integers(0, 256, (1, 9 * scale, 9 * scale, 3), dtype=np.uint8)
    for transform in (lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: x.swapaxes(1, 2)):
        np.testing.assert_array_equal(
            degrade(transform(hr).copy(), scale), transform(np.asarray(degrade(hr, scale)))
        )
