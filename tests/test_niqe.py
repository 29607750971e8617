"""Tests of NIQE, against MATLAB's value and an independent implementation."""

import math

import numpy as np
import pytest
from scipy import ndimage

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation import niqe as module
from esrgan_jax.evaluation.luma import rgb_to_y
from esrgan_jax.evaluation.niqe import Pristine, load_niqe, niqe, read_pristine
from esrgan_jax.images.image_file import read_image
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import write_tensors

SIGMA = 7 / 6  # of the Gaussian window of NIQE's authors


@pytest.fixture(scope="module")
def pristine():
    """Random statistics and the window that NIQE's authors use."""
    rng = np.random.default_rng(2)
    root = rng.standard_normal((36, 60)) / 8
    ramp = np.exp(-(np.arange(-3, 4) ** 2) / (2 * SIGMA**2))
    ramp /= ramp.sum()
    return Pristine(rng.uniform(0.5, 2, 36), root @ root.T, np.outer(ramp, ramp))


def texture(rng, *shape):
    """Noise of several wavelengths, uint8: (H, W) or (H, W, 3)."""
    sigmas = [(s, s) + (0,) * (len(shape) - 2) for s in (0.5, 2, 8)]
    layers = [ndimage.gaussian_filter(rng.standard_normal(shape), sigma) for sigma in sigmas]
    noise = sum(40 * layer / layer.std() for layer in layers)
    return np.clip(noise + 128, 0, 255).astype(np.uint8)


def reference_niqe(pristine, luma):
    """Returns NIQE of (H, W) luma, computed in float64 with SciPy, one block at a time."""
    rows, columns = luma.shape[0] // 96, luma.shape[1] // 96
    full = luma[: 96 * rows, : 96 * columns].astype(np.float64)
    # MATLAB's bicubic at half size has these eight weights, and mirrors the border.
    taps = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    half = full
    for _ in range(2):
        padded = np.pad(half, ((3, 3), (0, 0)), mode="symmetric")
        half = np.stack([taps @ padded[i : i + 8] for i in range(0, len(half), 2)], axis=1)
    features = []
    for top in range(0, 96 * rows, 96):
        for left in range(0, 96 * columns, 96):
            features.append(fits(contrast(full)[top : top + 96, left : left + 96]))
            top2, left2 = top // 2, left // 2
            features[-1] += fits(contrast(half)[top2 : top2 + 48, left2 : left2 + 48])
    features = np.array(features)
    distance = pristine.mean - features.mean(axis=0)
    deviation = features - features.mean(axis=0)
    covariance = pristine.covariance + deviation.T @ deviation / (len(features) - 1)
    return math.sqrt(distance @ np.linalg.lstsq(covariance / 2, distance)[0])


def contrast(image):
    def blur(x):
        return ndimage.gaussian_filter(x, SIGMA, mode="nearest", radius=3)

    variance = blur(image**2) - blur(image) ** 2
    return (image - blur(image)) / (np.sqrt(np.abs(variance)) + 1)


def fits(block):
    """Returns the 18 features of a block."""
    shape, left, right = fit(block)
    features = [shape, (left + right) / 2]
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        y, x = np.indices(block.shape)
        neighbour = block[(y - down) % len(block), (x - across) % len(block)]
        shape, left, right = fit(block * neighbour)
        mean = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
        features += [shape, mean, left, right]
    return features


def fit(values):
    """Fits an asymmetric generalised Gaussian: its shape, left and right spread."""
    left = np.sqrt(np.mean(values[values < 0] ** 2))
    right = np.sqrt(np.mean(values[values > 0] ** 2))
    skew = left / right
    ratio = np.abs(values).mean() ** 2 / (values**2).mean()
    ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2

    def error(shape):
        one, two, three = (math.gamma(n / shape) for n in (1, 2, 3))
        return abs(two**2 / (one * three) - ratio)

    low, high = 200, 10_000  # thousandths; the error falls and then rises
    while high - low > 2:
        third = (high - low) // 3
        if error((low + third) / 1000) < error((high - third) / 1000):
            high -= third
        else:
            low += third
    shape = min(range(low, high + 1), key=lambda n: error(n / 1000)) / 1000
    spread = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * spread, right * spread


def test_baboon_matches_matlab(shared_data):
    pristine = read_pristine(shared_data / "metrics" / "niqe_pris_params.npz")
    assert pristine.window.sum() == pytest.approx(1, abs=1e-15)
    value = niqe(pristine, read_image(shared_data / "set14" / "baboon.png"))
    assert round(value, 4) == 5.7296


@pytest.mark.parametrize("size", [(96, 192), (300, 200), (481, 400)])
def test_matches_an_independent_implementation(pristine, rng, size):
    """The sizes are two blocks, blocks with pixels left over, and more than one batch."""
    luma = texture(rng, *size)
    assert niqe(pristine, luma) == pytest.approx(reference_niqe(pristine, luma), rel=1e-9)


def test_a_color_image_is_scored_by_its_luma(pristine, rng):
    rgb = texture(rng, 100, 200, 3)
    luma = np.round(rgb_to_y(rgb)).astype(np.uint8)
    assert niqe(pristine, rgb) == niqe(pristine, luma)


def test_pixels_outside_whole_blocks_are_ignored(pristine, rng):
    luma = texture(rng, 191, 287)
    assert niqe(pristine, luma) == niqe(pristine, luma[:96, :192])


def test_a_flat_block_has_exactly_zero_moments(pristine):
    blocks = module._blocks(np.full((96, 192), 77.0), 96)
    assert blocks.shape == (2, 102, 102)
    assert np.all(module._moments(blocks, pristine.window) == 0)


def test_flat_blocks_are_scored_unless_only_one_has_texture(pristine, rng):
    """The shapes of a flat block are 0.2, the smallest; its other features are NaN and ignored."""
    luma = texture(rng, 96, 384)
    luma[:, 192:] = 128
    assert math.isfinite(niqe(pristine, luma))
    blocks = module._blocks(luma.astype(np.float64), 96)
    features = module._features(module._moments(blocks, pristine.window))
    shapes = [0, 2, 6, 10, 14]
    assert np.isfinite(features[:2]).all()
    np.testing.assert_array_equal(features[3, shapes], 0.2)
    assert np.isnan(np.delete(features[3], shapes)).all()

    luma[:, 80:] = 128
    with pytest.raises(InputError, match="flat"):
        niqe(pristine, luma)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((95, 400, 3), np.uint8, "two blocks of 96x96 px or more, got 400x95 px; score a larger"),
        ((96, 191), np.uint8, "two blocks .* got 191x96 px"),
        ((200, 300, 3), np.uint8, "texture in two blocks of 96x96 px or more, .* is flat"),
        ((200, 300, 3), np.float32, r"uint8, got \(200, 300, 3\) float32"),
        ((200, 300, 4), np.uint8, r"\(H, W, 3\) or \(H, W\) uint8, got \(200, 300, 4\) uint8"),
        ((200,), np.uint8, r"got \(200,\)"),
    ],
)
def test_an_unusable_image_is_refused(pristine, shape, dtype, message):
    with pytest.raises(InputError, match=message):
        niqe(pristine, np.zeros(shape, dtype))


def test_load_niqe_finds_the_statistics_in_the_cache(shared_data, monkeypatch):
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(shared_data / "metrics"))
    monkeypatch.setattr(zoo, "download", None)
    image = read_image(shared_data / "set14" / "baboon.png")
    assert round(load_niqe()(image), 4) == 5.7296


@pytest.mark.parametrize("name", ["mu_pris_param", "cov_pris_param", "gaussian_window"])
def test_a_file_without_a_tensor_is_refused(pristine, tmp_path, name):
    tensors = {
        "mu_pris_param": pristine.mean[None],
        "cov_pris_param": pristine.covariance,
        "gaussian_window": pristine.window,
    }
    file = tmp_path / "niqe.npz"
    write_tensors(file, tensors)
    for tensor, original in zip(read_pristine(file), pristine, strict=True):
        np.testing.assert_array_equal(tensor, original)
    file.unlink()
    write_tensors(file, {k: v for k, v in tensors.items() if k != name})
    with pytest.raises(InputError) as failure:
        read_pristine(file)
    assert str(failure.value) == f"{file}: not the statistics of NIQE: missing: {name}"
