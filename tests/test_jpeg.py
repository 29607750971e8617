"""JPEG on the device next to Pillow's encoder and decoder, which are libjpeg's."""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from esrgan_jax.degradation.jpeg import jpeg

QUALITIES = (30, 60, 90)
compressed = jax.jit(jpeg)


def by_pillow(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(file)).astype(int)


def differences(image: np.ndarray, quality: int, canvas: int) -> np.ndarray:
    """Returns the absolute differences in levels, with noise on the unused part of the canvas."""
    height, width, _ = image.shape
    wide = np.random.default_rng(1).random((canvas, canvas, 3), np.float32)
    wide[:height, :width] = image / np.float32(255)
    result = np.asarray(compressed(wide, quality, height, width))[:height, :width] * 255
    np.testing.assert_allclose(result, np.round(result), atol=1e-4)
    return np.abs(np.round(result).astype(int) - by_pillow(image, quality))


def synthetic(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns waves, an edge of strong colours and noise, (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width] / 10
    waves = np.stack([np.sin(x * y / 3), np.cos(x), np.sin(y + x)], -1) * 90 + 128
    waves[:, width // 2 :] = (250, 10, 60)
    waves += rng.normal(0, 8, waves.shape)
    return np.clip(waves, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 10, *QUALITIES, 100])
@pytest.mark.parametrize(("height", "width"), [(96, 96), (83, 57), (41, 90), (1, 5)])
def test_synthetic_images_are_those_of_pillow(rng, height, width, quality):
    off = differences(synthetic(rng, height, width), quality, 96)
    assert np.mean(off <= 2) >= 0.99
    assert off.mean() < 0.1


def test_ten_photographs_are_those_of_pillow(shared_data):
    paths = sorted(shared_data.glob("photos/kodak24/*.png"))[:10]
    assert len(paths) == 10
    for quality in QUALITIES:
        for path in paths:
            off = differences(np.asarray(Image.open(path).convert("RGB")), quality, 512)
            assert np.mean(off <= 2) >= 0.99, (path.name, quality)
            assert off.mean() < 0.5, (path.name, quality)


def test_a_batch_has_a_quality_and_a_size_for_each_image(rng):
    images = np.stack([synthetic(rng, 96, 96), synthetic(rng, 96, 96)]) / np.float32(255)
    values = np.array([29.6, 90.4], np.float32), np.array([17, 96]), np.array([96, 9])
    together = jax.jit(jax.vmap(jpeg))(images, *values)
    for image, result, quality, height, width in zip(images, together, *values, strict=True):
        alone = compressed(image, round(float(quality)), height, width)
        part = (slice(height), slice(width))
        np.testing.assert_allclose(result[part], alone[part], atol=1e-6)


def test_sides_that_are_no_multiples_of_16_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        jpeg(jax.numpy.zeros((16, 24, 3)), 90)
