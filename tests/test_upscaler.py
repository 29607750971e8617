"""Tests of the upscaler: networks with a known result, and tiles against the whole image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.models.generator import Generator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscaling.upscaler import Upscaler

traces = []  # input shapes of each tracing


class Affine(nn.Module, Generator):
    """Computes gain · lr + shift and repeats each pixel."""

    scale: int = 2
    gain: float = 1.0
    shift: float = 0.0
    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    def __call__(self, lr):
        return (self.gain * lr + self.shift).repeat(self.scale, axis=1).repeat(self.scale, axis=2)


class Smooth(nn.Module, Generator):
    """Computes two 3x3 means with zero padding, a receptive field of 5 px, and repeats pixels."""

    scale: int = 2
    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    def __call__(self, lr):
        traces.append(lr.shape)
        kernel = jnp.tile(jnp.eye(3) / 9, (3, 3, 1, 1))
        for _ in range(2):
            lr = jax.lax.conv_general_dilated(
                lr, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return lr.repeat(2, axis=1).repeat(2, axis=2)


def repeated(image, scale):
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_every_level_is_returned_exactly_in_its_dtype(rng, dtype):
    image = rng.uniform(0, 1, (64, 352, 3))
    if np.issubdtype(dtype, np.integer):
        image = np.arange(64 * 352 * 3).reshape(64, 352, 3) % (np.iinfo(dtype).max + 1)
    image = image.astype(dtype)
    result = Upscaler(Affine(), {})(image)
    assert result.dtype == dtype
    assert result.shape == (128, 704, 3)
    expected = image if np.issubdtype(dtype, np.integer) else image.astype(np.float32)
    np.testing.assert_array_equal(result, repeated(expected, 2))


def test_results_are_clamped_and_rounded():
    image = np.array([[[0, 10, 11], [200, 255, 12]]], np.uint8)
    result = Upscaler(Affine(gain=2.0, shift=-0.1), {})(image)[::2, ::2]
    expected = np.rint((2.0 * image / 255 - 0.1).clip(0, 1) * 255)
    np.testing.assert_array_equal(result, expected)
    assert {0, 255} <= set(result.ravel().tolist())
    over = Upscaler(Affine(gain=2.0), {})(np.full((2, 2, 3), 0.75, np.float32))
    assert (over == 1).all()


@pytest.mark.parametrize("shape", [(40, 50), (16, 90), (17, 17), (90, 5)])
def test_tiles_that_overlap_by_the_receptive_field_equal_the_whole(rng, shape):
    """Also at the image's borders, where the network pads with zeros."""
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    whole = Upscaler(Smooth(), {})(image)
    tiled = Upscaler(Smooth(), {}, tile=16, overlap=4)(image)
    np.testing.assert_array_equal(tiled, whole)


def test_all_tiles_of_all_images_have_one_shape(rng):
    jax.clear_caches()
    traces.clear()
    upscaler = Upscaler(Smooth(), {}, tile=16, overlap=4)
    for shape in [(33, 50), (100, 17), (16, 16)]:
        upscaler(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
    # Eight tiles at a time on the eight simulated devices, and a single tile alone.
    assert sorted(traces) == [(1, 16, 16, 3), (8, 16, 16, 3)]


@pytest.fixture(scope="module")
def unshuffling():
    """A small x2 network that unshuffles 2 x 2 pixels, as Real-ESRGAN's x2 does."""
    module = RRDBNet(num_features=8, num_growth=4, num_blocks=1, scale=2, unshuffle=2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    rng = np.random.default_rng(0)
    draw = lambda shape: rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)  # noqa: E731
    variables = jax.tree.map(lambda s: draw(s.shape).astype(np.float32), shapes)
    variables["params"]["conv_last"]["bias"] += np.float32(0.5)
    return module, variables


def test_images_are_mirrored_to_a_multiple_of_the_unshuffle_and_cropped(unshuffling, rng):
    image = rng.uniform(0, 1, (7, 9, 3)).astype(np.float32)
    result = Upscaler(*unshuffling)(image)
    mirrored = np.concatenate([image, image[-2:-1]], axis=0)
    mirrored = np.concatenate([mirrored, mirrored[:, -2:-1]], axis=1)
    module, variables = unshuffling
    expected = np.asarray(jax.jit(module.apply)(variables, mirrored[None])[0]).clip(0, 1)[:14, :18]
    assert result.shape == (14, 18, 3)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_tiles_of_an_unshuffling_network_equal_the_whole(unshuffling, rng):
    image = rng.uniform(0, 1, (101, 33, 3)).astype(np.float32)
    whole = Upscaler(*unshuffling)(image)
    assert whole.std() > 0.01
    # 36.5 px around a pixel: 17 convolutions at half size, 1 at LR size, 3 at twice the size.
    tiled = Upscaler(*unshuffling, tile=80, overlap=76)(image)
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5, 3), (3, 1, 3)])
def test_images_of_one_row_or_column(unshuffling, shape):
    assert Upscaler(*unshuffling)(np.zeros(shape, np.uint8)).shape == (
        2 * shape[0],
        2 * shape[1],
        3,
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), r"channels\), got \(2, 4, 4, 3\); .* as a list"),
        (np.zeros((0, 4, 3), np.uint8), "got"),
        (np.zeros((4, 4, 5), np.uint8), "1 to 4 channels, the last axis, got 5"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.full((4, 4, 3), 255.0), r"\[0, 1\].*255"),
        (np.full((4, 4, 3), -0.5), r"\[0, 1\].*-0.5"),
        (np.full((4, 4, 3), np.nan), r"\[0, 1\].*nan"),
    ],
)
def test_unusable_images_are_refused(image, message):
    with pytest.raises(InputError, match=message):
        Upscaler(Affine(), {})(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("gain", [float("nan"), float("inf"), float("-inf")])
def test_results_that_are_not_finite_raise(dtype, gain):
    with pytest.raises(RunError, match="not finite; its weights are damaged"):
        Upscaler(Affine(gain=gain), {}, tile=8, overlap=2)(np.ones((9, 9, 3), dtype))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 32, "overlap": 32}, "tile of 32 px must be 34 px or more"),
        ({"tile": 0}, "tile of 0 px"),
        ({"tile": -5, "overlap": 0}, "tile of -5 px"),
        ({"tile": 61}, "multiple of 2"),
        ({"tile": 64, "overlap": -1}, "overlap of -1 px"),
    ],
)
def test_unusable_tiles_are_refused(unshuffling, options, message):
    with pytest.raises(InputError, match=message):
        Upscaler(*unshuffling, **options)


def test_variables_without_the_key_params_are_refused(unshuffling):
    module, variables = unshuffling
    with pytest.raises(InputError, match='variables have no "params": give '):
        Upscaler(module, variables["params"])


def test_exact_tiles_equal_the_whole_image_with_alpha(rng):
    """Within one level, as sums have another order; a sharp edge of alpha would show a border."""
    module = RRDBNet(num_features=4, num_growth=4, num_blocks=1, scale=2)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    image = rng.integers(0, 256, (90, 200, 4), dtype=np.uint8)
    rows, columns = np.mgrid[:90, :200]
    image[..., 3] = 255 * (np.hypot(rows - 45, (columns - 100) / 2) < 40)
    one_device = {"devices": jax.devices()[:1]}
    whole = Upscaler(module, variables, **one_device)(image)
    exact = Upscaler(module, variables, exact=True, tile=128, **one_device)
    assert exact.tile < image.shape[1]
    result = exact(image)
    np.testing.assert_array_equal(result[..., 3], whole[..., 3])
    assert np.abs(result.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("size", [(0, 4040), (4040, 0), (40, 4040)])
def test_sizes_beyond_the_largest_scale_are_refused(size):
    with pytest.raises(InputError, match=r"is 101 times that of .* 40x40; the most"):
        Upscaler(Affine(), {})(np.zeros((40, 40, 3), np.uint8), size=size)
