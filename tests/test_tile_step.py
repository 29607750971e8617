"""Tests of the step on the device: bands, alpha, strength, colour correction and the ensemble."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from esrgan_jax.errors import InputError
from esrgan_jax.imresize import imresize
from esrgan_jax.models.generator import Generator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscaling.borders import borders
from esrgan_jax.upscaling.network import PART
from esrgan_jax.upscaling.planes import result_bands
from esrgan_jax.upscaling.tile_step import upscale_step


class Recolor(nn.Module, Generator):
    """A generator that repeats pixels and computes `gain * pixel + shift`, with any channels."""

    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")
    gain: float = 1.0
    shift: float = 0.0
    scale: int = 2

    def __call__(self, lr):
        sr = self.gain * lr.repeat(self.scale, axis=1).repeat(self.scale, axis=2) + self.shift
        return jnp.stack([sr[..., i % sr.shape[-1]] for i in range(self.out_channels)], axis=-1)


def run(module, tiles, sizes=None, **options):
    tiles = np.asarray(tiles)
    sizes = [tiles.shape[1:3]] * len(tiles) if sizes is None else sizes
    sr, finite = upscale_step(module, {}, tiles, np.array(sizes, np.int32), **options)
    assert np.asarray(finite).all()
    return np.asarray(sr)


def repeated(x, scale=2):
    return x.repeat(scale, axis=1).repeat(scale, axis=2)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_network_that_repeats_pixels_returns_every_kind_of_image(rng, bands, channels, dtype):
    peak = 1 if dtype == np.float32 else np.iinfo(dtype).max
    lr = (
        np.rint(rng.uniform(0, peak, (2, 6, 5, bands)))
        if peak > 1
        else rng.uniform(0, 1, (2, 6, 5, bands))
    )
    lr = lr.astype(dtype)
    if bands in (2, 4):
        lr[..., -1] = np.maximum(lr[..., -1], peak // 2 or 0.5)  # low alpha keeps little colour
    sr = run(Recolor(channels, channels), lr, dtype=np.dtype(dtype).name)
    assert sr.dtype == dtype
    shown = slice(None) if channels == 4 or bands in (1, 3) else slice(-1)  # alpha: test_alpha.py
    difference = np.abs(sr.astype(float) - repeated(lr).astype(float))[..., shown].max()
    # Where pixels are transparent, colours are smoothed, which changes them by about a level.
    smoothed = 2 if peak > 1 else 2 / 65535
    assert difference <= (smoothed if bands in (2, 4) else 0 if peak > 1 else 1e-6)


@pytest.mark.parametrize(
    ("channels", "bands", "expected"),
    [
        ((3, 3), 1, 1), ((3, 3), 2, 2), ((3, 3), 3, 3), ((3, 3), 4, 4),
        ((1, 1), 3, 3), ((1, 1), 4, 4), ((4, 4), 4, 4), ((4, 4), 3, 3), ((4, 4), 1, 1),
        ((3, 1), 3, 1), ((3, 1), 4, 2), ((1, 3), 1, 3), ((1, 3), 2, 4), ((1, 3), 3, 3),
        ((3, 4), 3, 4), ((4, 3), 4, 3),
    ],
)  # fmt: skip
def test_the_number_of_bands_of_the_result(rng, channels, bands, expected):
    module = Recolor(*channels)
    assert result_bands(bands, module) == expected
    lr = rng.uniform(0, 1, (1, 4, 4, bands)).astype(np.float32)
    assert run(module, lr).shape == (1, 8, 8, expected)


@pytest.mark.parametrize("channels", [(2, 3), (3, 2), (5, 5)])
def test_networks_with_other_channels_are_refused(channels):
    with pytest.raises(InputError, match=f"{channels[0]} input and {channels[1]} output channels"):
        result_bands(3, Recolor(*channels))


def test_colors_of_transparent_pixels_do_not_change_the_result(rng):
    """Two images that differ only where alpha is 0 have the same result."""
    lr = np.zeros((2, 8, 8, 4), np.uint8)
    lr[:, 2:6, 2:6] = [200, 100, 50, 255]
    lr[1, ..., 0] = np.where(lr[1, ..., 3] == 0, 255, lr[1, ..., 0])
    lr[1, ..., 1] = np.where(lr[1, ..., 3] == 0, rng.integers(0, 256, (8, 8)), lr[1, ..., 1])
    module = RRDBNet(num_features=4, num_growth=2, num_blocks=1, scale=2)
    variables = jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3)))
    variables = jax.tree.map(lambda x: x * 20, variables)
    sizes = np.full((2, 2), 8, np.int32)
    sr, _ = upscale_step(module, variables, lr, sizes, dtype="uint8")
    np.testing.assert_array_equal(sr[0], sr[1])


def test_alpha_is_exact_where_it_is_constant(rng):
    """Even if the network changes it: opaque pixels stay opaque, transparent ones transparent."""
    lr = rng.integers(0, 256, (1, 16, 24, 4), dtype=np.uint8)
    lr[..., 3] = 0
    lr[:, :, 12:, 3] = 255
    sr = run(Recolor(gain=0.9, shift=0.02), lr, dtype="uint8")
    assert (sr[:, :, : 2 * 11, 3] == 0).all()
    assert (sr[:, :, 2 * 13 :, 3] == 255).all()
    edge = sr[0, 0, 2 * 11 : 2 * 13, 3].astype(int)
    assert (np.diff(edge) >= 0).all()  # no ringing
    np.testing.assert_array_equal(edge + edge[::-1], 255)


def test_colors_continue_under_transparent_pixels(rng):
    """So a sharp edge of alpha makes no edge of colour on either side."""
    lr = np.zeros((1, 40, 40, 4), np.uint8)
    lr[..., :3] = rng.integers(0, 256, (1, 40, 40, 3))  # where transparent, any colour
    lr[:, :, :20, :3] = [200, 100, 50]
    lr[:, :, :19, 3] = 255
    lr[:, :, 19, 3] = 100
    sr = run(Recolor(), lr, dtype="uint8")
    np.testing.assert_array_equal(sr[:, :, : 2 * 19, :3], np.full((1, 80, 38, 3), [200, 100, 50]))
    near = sr[:, :, 2 * 19 : 2 * 30, :3].astype(int)
    assert np.abs(near - [200, 100, 50]).max() <= 3


def test_colors_do_not_continue_beyond_the_image(rng):
    """There the network sees zeros, as without alpha."""
    lr = np.zeros((1, 16, 16, 4), np.float32)
    lr[:, :10, :12] = 0.5
    seen = []

    class Recording(Recolor):
        def __call__(self, lr):
            jax.debug.callback(seen.append, lr)
            return super().__call__(lr)

    run(Recording(), lr, [(10, 12)])
    jax.effects_barrier()
    (planes,) = seen
    np.testing.assert_allclose(planes[0, :10, :12], 0.5, atol=1e-6)
    assert (planes[:, 10:] == 0).all()
    assert (planes[:, :, 12:] == 0).all()


def test_gray_images_stay_gray(rng):
    class Tint(Recolor):
        def __call__(self, lr):
            return super().__call__(lr) * jnp.array([1.0, 0.5, 0.25]).reshape(1, 1, 1, 3)

    lr = rng.uniform(0, 1, (1, 4, 4, 1)).astype(np.float32)
    luma = 0.299 + 0.587 * 0.5 + 0.114 * 0.25
    np.testing.assert_allclose(run(Tint(), lr), luma * repeated(lr), rtol=1e-5)


def test_strength_goes_from_bicubic_to_the_network(rng):
    sizes = [(9, 12), (12, 7)]
    lr = np.zeros((2, 12, 12, 3), np.float32)
    for tile, (height, width) in zip(lr, sizes, strict=True):
        tile[:height, :width] = rng.uniform(0.2, 0.8, (height, width, 3))
    module = Recolor(gain=0.5)
    for strength in (0.0, 0.3, 1.0):
        sr = run(module, lr, sizes, strength=strength)
        for tile, result, (height, width) in zip(lr, sr, sizes, strict=True):
            image = tile[:height, :width]
            expected = strength * 0.5 * repeated(image[None])[0]
            expected = expected + (1 - strength) * imresize(image, 2)
            filled = result[: 2 * height, : 2 * width]
            np.testing.assert_allclose(filled, expected.clip(0, 1), rtol=0, atol=1e-5)


def test_another_strength_does_not_recompile(rng):
    lr, sizes = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 2), 8, np.int32)
    before = upscale_step._cache_size()
    for strength in (0.1, 0.2, 0.9):
        upscale_step(Recolor(gain=0.25), {}, lr, sizes, strength)
    assert upscale_step._cache_size() == before + 1


def test_keep_color_removes_a_cast_and_keeps_texture(rng):
    lr = rng.uniform(0.3, 0.6, (1, 48, 64, 3)).astype(np.float32)
    cast = run(Recolor(shift=0.1), lr)
    kept = run(Recolor(shift=0.1), lr, keep_color=True)
    np.testing.assert_allclose(cast - repeated(lr), 0.1, atol=1e-6)
    np.testing.assert_allclose(kept, repeated(lr), atol=1e-5)
    # Faint texture with a period of two pixels is not a colour cast.
    texture = np.zeros_like(lr)
    texture[:, ::2, ::2] = 0.05

    class Textured(Recolor):
        def __call__(self, lr):
            return super().__call__(lr) + jnp.asarray(repeated(texture - texture.mean()))

    both = run(Textured(shift=0.1), lr, keep_color=True)
    difference = both - repeated(lr + texture - texture.mean())
    assert np.abs(difference).max() < 0.006  # at the border, where the mean is one-sided


def test_keep_color_ignores_pixels_beyond_the_image(rng):
    """An image in a corner of its tile is corrected like one that fills the tile."""
    lr = np.zeros((1, 64, 64, 3), np.float32)
    lr[:, :20, :30] = rng.uniform(0.3, 0.6, (1, 20, 30, 3))
    sr = run(Recolor(gain=0.9, shift=0.1), lr, [(20, 30)], keep_color=True)
    alone = run(Recolor(gain=0.9, shift=0.1), lr[:, :20, :30], keep_color=True)
    np.testing.assert_allclose(sr[:, :36, :56], alone[:, :36, :56], atol=2e-5)


@pytest.fixture(scope="module")
def network():
    module = RRDBNet(num_features=8, num_growth=4, num_blocks=1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(0)
    draw = lambda s: rng.normal(0, max(np.prod(s.shape[-4:-1]), 25) ** -0.5, s.shape)  # noqa: E731
    return module, jax.tree.map(lambda s: draw(s).astype(np.float32), shapes)


def test_the_ensemble_is_the_mean_over_eight_rotations_and_flips(network, rng):
    module, variables = network
    sizes = [(12, 9), (12, 12)]
    lr = np.zeros((2, 12, 12, 3), np.float32)
    for tile, (height, width) in zip(lr, sizes, strict=True):
        tile[:height, :width] = rng.uniform(0, 1, (height, width, 3))
    sr, _ = upscale_step(module, variables, lr, np.array(sizes), ensemble=True)
    apply = jax.jit(module.apply)
    for tile, result, (height, width) in zip(lr, np.asarray(sr), sizes, strict=True):
        image, total = tile[:height, :width], 0.0
        for turns in range(4):
            for flip in (False, True):
                rotated = np.rot90(image[:, ::-1] if flip else image, turns)
                back = np.rot90(np.asarray(apply(variables, rotated[None]))[0], -turns)
                total = total + (back[:, ::-1] if flip else back)
        filled = result[: 4 * height, : 4 * width]
        np.testing.assert_allclose(filled, (total / 8).clip(0, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("border", ["zero", "mirror", "wrap", "full"])
def test_enlarging_in_parts_matches_enlarging_the_whole(network, rng, border):
    module, variables = network
    height = 3 * PART + 5
    lr = rng.uniform(0, 1, (1, height, 8, 3)).astype(np.float32)
    filled = (height, 8) if border == "full" else (height - 3, 6)
    sizes = np.array([filled], np.int32)
    parts, _ = upscale_step(module, variables, lr, sizes, border=border)
    with borders(sizes, *lr.shape[1:3], "zero" if border == "full" else border):
        whole = jax.jit(lambda *given: module.apply(*given))(variables, lr).clip(0, 1)
    filled = np.s_[:, : 4 * filled[0], : 4 * filled[1]]
    assert np.asarray(whole)[filled].std() > 0.01
    np.testing.assert_allclose(parts[filled], whole[filled], rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tile_with_values_that_are_not_finite_is_marked(value):
    lr = np.zeros((3, 4, 4, 3), np.float32)

    class Broken(Recolor):
        def __call__(self, lr):
            return super().__call__(lr).at[1, 3, 3, 0].set(value)

    _, finite = upscale_step(Broken(), {}, lr, np.full((3, 2), 4, np.int32))
    assert np.asarray(finite).tolist() == [True, False, True]
