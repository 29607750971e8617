"""Upscaled alpha against masks whose exact shape is known at the size of the result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import ndimage

from benchmarks.alpha import bicubic, enlarge, ours
from benchmarks.masks import pair
from esrgan_jax.models.generator import Generator
from esrgan_jax.upscaling.alpha import bounded_alpha
from esrgan_jax.upscaling.upscaler import Upscaler

KINDS = ("circle", "ring", "text", "hair")


class Wavy(nn.Module, Generator):
    """A network that darkens and adds waves, so a mask that it touched would be wrong."""

    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    def __call__(self, lr):
        x = 0.8 * lr.repeat(self.scale, axis=1).repeat(self.scale, axis=2)
        return x + 0.1 * jnp.sin(jnp.arange(x.shape[2]))[None, None, :, None]


def enlarged(lr, scale=4, border="zero", strength=None, size=None):
    alpha, sizes = jnp.asarray(lr)[None, ..., None], np.array([size or lr.shape], np.int32)
    return np.asarray(enlarge(alpha, sizes, scale, border, strength))[0, ..., 0]


def error(x, truth):
    return np.abs(np.rint(x * 255) / 255 - truth).mean()


def neighbourhood_range(lr, scale=4):
    """Returns the minimum and maximum of each 3x3 pixels of LR, at the size of the result."""
    filters = (ndimage.minimum_filter, ndimage.maximum_filter)
    low, high = (f(lr, 3).repeat(scale, 0).repeat(scale, 1) for f in filters)
    return low, high


def count_parts(mask):
    """Returns the numbers of connected opaque parts and of connected transparent parts."""
    opaque = mask > 0.5
    return ndimage.label(opaque, np.ones((3, 3)))[1], ndimage.label(~opaque)[1]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("edge", ["hard", "harder", "soft", "blurred"])
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_is_never_worse_than_bicubic(kind, edge, scale):
    lr, truth = pair(kind, edge, scale, 32)
    result = ours(lr, scale)
    assert error(result, truth) <= error(bicubic(lr, scale), truth) + 1e-5
    if kind in ("circle", "ring"):
        assert count_parts(result) == count_parts(truth) == (1, 1 if kind == "circle" else 2)
        if scale == 4:
            bound = {"hard": 0.7, "harder": 0.8, "soft": 0.45, "blurred": 1}[edge]
            assert error(result, truth) <= bound * error(bicubic(lr, scale), truth) + 1e-5


SHAPES = [
    *("circle 3", "circle 6", "circle 15", "wedge 0", "wedge 4", "wedge 17", "wedge 30"),
    *("square 3", "square 8", "lines 0.5", "lines 1", "lines 2", "lines 4"),
    *("hair 0.5", "hair 1", "hair 3"),
]


@pytest.mark.parametrize("scale", [2, pytest.param(3, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("kind", SHAPES)
def test_no_shape_size_or_edge_is_worse_than_bicubic(kind, scale):
    worse = {}
    for edge in ("hard", "harder", "soft", 0.25, 0.35, 0.5, 0.7, 1.0):
        lr, truth = pair(kind, edge, scale, 40)
        found, expected = error(ours(lr, scale), truth), error(bicubic(lr, scale), truth)
        if found > expected + 1e-5:
            worse[edge] = found, expected
    assert not worse


@pytest.mark.parametrize("edge", ["hard", "soft"])
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_has_no_halos_holes_or_islands(kind, edge):
    """Alpha stays in the range of its 3x3 LR pixels, and equals them where they are equal."""
    lr, _ = pair(kind, edge, 4, 32)
    result, (low, high) = ours(lr), neighbourhood_range(lr)
    soft = bicubic(lr)  # may exceed the range at soft peaks, where LR is an average
    assert (result >= np.minimum(low, soft) - 1e-5).all()
    assert (result <= np.maximum(high, soft) + 1e-5).all()
    np.testing.assert_array_equal(result[low == high], low[low == high])
    if edge == "hard":
        assert (result >= -1e-6).all()
        assert (result <= 1 + 1e-6).all()
        assert count_parts(result) == count_parts(bicubic(lr))


def test_a_straight_edge_stays_straight_and_at_most_half_as_wide_as_bicubic():
    lr = np.zeros((12, 12), np.float32)
    lr[:, 6:] = 1
    lr[:, 5] = 0.5
    result = enlarged(lr)
    np.testing.assert_allclose(result, np.broadcast_to(result[:1], result.shape), atol=1e-6)
    assert (np.diff(result[0]) >= -1e-6).all()  # no overshoot along the edge
    narrow, wide = (((x > 0.05) & (x < 0.95)).sum() for x in (result[0], bicubic(lr)[0]))
    assert narrow <= wide / 2
    np.testing.assert_allclose(result[0, :44] + result[0, 43::-1], 1, atol=1e-6)


def test_scale_1_changes_nothing_and_strength_0_is_bicubic():
    lr, _ = pair("circle", "hard", 2, 16)
    np.testing.assert_array_equal(enlarged(lr, 1), lr)
    np.testing.assert_allclose(
        enlarged(lr, strength=0), bicubic(lr).clip(*neighbourhood_range(lr)), atol=1e-5
    )
    np.testing.assert_array_equal(enlarged(lr, strength=1), enlarged(lr))


def test_pixels_beyond_the_image_do_not_affect_alpha(rng):
    """An image in the corner of a tile gives the same as alone; wrapping commutes with shifts."""
    lr = rng.integers(0, 2, (14, 11)).astype(np.float32)
    tile = np.zeros((20, 24), np.float32)
    tile[:14, :11] = lr
    in_corner = enlarged(tile, size=(14, 11))[: 4 * 14, : 4 * 11]
    np.testing.assert_allclose(in_corner, enlarged(lr), atol=1e-5)
    shifted = enlarged(np.roll(lr, (5, 3), (0, 1)), border="wrap")
    np.testing.assert_allclose(shifted, np.roll(enlarged(lr, border="wrap"), (20, 12), (0, 1)),
                               atol=1e-5)  # fmt: skip


def masked(bands=4, dtype=np.uint8, edge="hard"):
    lr, truth = pair("ring", edge, 4, 40)
    peak = np.iinfo(dtype).max
    image = np.full((40, 40, bands), peak // 2, dtype)
    image[..., -1] = np.rint(lr * peak)
    return image, truth


@pytest.mark.parametrize("options", [{}, {"ensemble": True}, {"color": "keep"}, {"tile": 32}])
def test_the_network_does_not_change_alpha(options):
    """For any number of channels, bit depth and tile size."""
    all_options = {"devices": jax.devices()[:1], "overlap": 16, **options}
    all_options |= {} if "tile" in options else {"tile": 64, "overlap": None}
    image, _ = masked()
    expected = np.rint(255 * ours(image[..., 3].astype(np.float32) / 255))
    for bands, dtype in ((4, np.uint8), (2, np.uint8), (4, np.uint16)):
        image, _ = masked(bands, dtype)
        alpha = Upscaler(Wavy(), {}, **all_options)(image)[..., -1]
        if dtype == np.uint8:
            assert np.abs(alpha - expected).max() <= 1
        else:
            assert np.abs(alpha / 257 - expected).max() <= 0.51
        assert (alpha == np.iinfo(dtype).max).mean() > 0.2
        assert (alpha == 0).mean() > 0.2


def test_alpha_passes_through_a_chain_of_networks():
    image, _ = masked()
    second = Upscaler(Wavy(scale=2), {})
    result = Upscaler(Wavy(scale=2), {}, then=second)(image)
    assert result.shape == (160, 160, 4)
    assert count_parts(result[..., 3] / 255) == (1, 2)
    image[..., 3] = 255
    assert (Upscaler(Wavy(scale=2), {}, then=second)(image)[..., 3] == 255).all()


def test_alpha_of_a_four_channel_network_is_bounded_by_lr():
    image, _ = masked()
    result = Upscaler(Wavy(in_channels=4, out_channels=4), {})(image)[..., 3]
    lr = image[..., 3]
    low, high = neighbourhood_range(lr)
    np.testing.assert_array_equal(result[low == high], low[low == high])
    waves = (low == 0) & (high == 255) & (lr.repeat(4, 0).repeat(4, 1) == 255)
    assert 0.6 < (result[waves] / 255).mean() < 0.9


def test_bounds_ignore_pixels_beyond_the_image():
    """The zeros beyond the image do not lower the bounds."""
    alpha = np.zeros((1, 8, 8, 1), np.float32)
    alpha[:, :5, :6] = 1
    network_alpha = jnp.full((1, 16, 16, 1), 0.5)
    bounded = bounded_alpha(network_alpha, jnp.asarray(alpha), np.array([[5, 6]], np.int32), "zero")
    assert (np.asarray(bounded)[0, :10, :12] == 1).all()
