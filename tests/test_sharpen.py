"""The unsharp mask next to SciPy's Gaussian filter."""

import jax
import numpy as np
import pytest
from scipy.ndimage import correlate1d

from esrgan_jax.degradation.sharpen import sharpen


def reference(image: np.ndarray) -> np.ndarray:
    """Returns what `USMSharp` makes with OpenCV's kernel for 51 taps, in float64."""
    sigma = 0.3 * ((51 - 1) * 0.5 - 1) + 0.8
    weights = np.exp(-(np.arange(-25, 26.0) ** 2) / (2 * sigma**2))

    def blur(x: np.ndarray) -> np.ndarray:
        for axis in (0, 1):
            x = correlate1d(x, weights / weights.sum(), axis=axis, mode="mirror")
        return x

    residual = image - blur(image)
    mask = blur((np.abs(residual) * 255 > 10).astype(float))
    return mask * np.clip(image + 0.5 * residual, 0, 1) + (1 - mask) * image


def test_edges_are_sharpened_as_in_the_published_code(rng):
    image = np.full((64, 80, 3), 0.4)
    image[20:40, 30:] = (0.9, 0.1, 0.6)
    image += rng.normal(0, 0.005, image.shape)  # below the threshold
    result = np.asarray(jax.jit(sharpen)(image.astype(np.float32)[None]))[0]
    np.testing.assert_allclose(result, reference(image), atol=1e-4)
    assert np.abs(result - image).max() > 0.1


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="needs 26 or more"):
        sharpen(jax.numpy.zeros((25, 64, 3)))
