"""An image that fills only part of its tile gives the same result as the image alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.models.padding import padded_by
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet
from esrgan_jax.upscaling.borders import borders

NETWORKS = {
    "RRDB": RRDBNet(num_features=8, num_growth=4, num_blocks=2),
    "unshuffle": RRDBNet(num_features=8, num_growth=4, num_blocks=1, scale=2, unshuffle=2),
    "pixelshuffle": RRDBNet(num_features=8, num_growth=4, num_blocks=1, upsampler="pixelshuffle"),
    "x3": RRDBNet(num_features=8, num_growth=4, num_blocks=1, scale=3, plus=True, unroll=True),
    "SRResNet": SRResNet(num_features=8, num_blocks=1),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """Returns a module and random variables whose results are not flat."""
    module = NETWORKS[request.param]
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(0)

    def draw(path, shape):
        if "var" in jax.tree_util.keystr(path):
            return rng.uniform(0.5, 2, shape.shape).astype(np.float32)
        deviation = np.prod(shape.shape[-4:-1]) ** -0.5 if len(shape.shape) > 3 else 0.2
        return rng.normal(0, deviation, shape.shape).astype(np.float32)

    return module, jax.tree_util.tree_map_with_path(draw, shapes)


def apply_with_borders(module, variables, lr, sizes, border):
    def apply(variables, lr, sizes):
        with borders(sizes, lr.shape[1], lr.shape[2], border):
            return module.apply(variables, lr)

    return np.asarray(jax.jit(apply)(variables, lr, jnp.array(sizes)))


SIZES = [(12, 16), (2, 10)]


def images(rng):
    """Returns two images in tiles of 16 x 16, which are zero outside the images."""
    lr = np.zeros((2, 16, 16, 3), np.float32)
    for tile, (height, width) in zip(lr, SIZES, strict=True):
        tile[:height, :width] = rng.uniform(0, 1, (height, width, 3))
    return lr


def test_zero_padding_starts_at_the_edge_of_each_image(network, rng):
    module, variables = network
    lr = images(rng)
    result = apply_with_borders(module, variables, lr, SIZES, "zero")
    for tile, sr, (height, width) in zip(lr, result, SIZES, strict=True):
        alone = np.asarray(jax.jit(module.apply)(variables, tile[None, :height, :width]))[0]
        assert alone.std() > 0.01
        filled = sr[: height * module.scale, : width * module.scale]
        np.testing.assert_allclose(filled, alone, rtol=0, atol=1e-5)


def pad_input(mode, x, pad):
    """Pads the input of a convolution with a mode of np.pad instead of with zeros."""
    return jnp.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode), 0


@pytest.mark.parametrize(
    ("border", "mode"),
    [("mirror", "symmetric"), pytest.param("wrap", "wrap", marks=pytest.mark.slow)],
)
def test_mirror_and_wrap_pad_the_input_of_every_convolution(network, rng, border, mode):
    module, variables = network
    lr = images(rng)
    result = apply_with_borders(module, variables, lr, SIZES, border)
    height, width = SIZES[1]  # the one whose borders reach all of it; each size compiles anew
    with padded_by(jax.tree_util.Partial(functools.partial(pad_input, mode))):
        alone = jax.jit(module.apply)(variables, lr[1:, :height, :width])
    filled = result[1, : height * module.scale, : width * module.scale]
    np.testing.assert_allclose(filled, alone[0], rtol=0, atol=1e-5)


def test_wrap_commutes_with_shifts(network, rng):
    module, variables = network
    lr = rng.uniform(0, 1, (1, 16, 12, 3)).astype(np.float32)
    lr = np.concatenate([lr, np.roll(lr, (6, 4), (1, 2))])
    first, second = apply_with_borders(module, variables, lr, [(16, 12)] * 2, "wrap")
    moved = np.roll(first, (6 * module.scale, 4 * module.scale), (0, 1))
    np.testing.assert_allclose(second, moved, rtol=0, atol=1e-5)


def test_the_receptive_field_bounds_the_gradient(network, rng):
    """The gradient is zero outside the receptive field and reaches nearly to its end."""
    module, variables = network
    side = 2 * module.receptive_field + 10
    middle = side // 2
    lr = rng.uniform(0, 1, (1, 4, side, 3)).astype(np.float32)
    weights = rng.normal(size=(1, 4 * module.scale, module.scale, 3)).astype(np.float32)

    @jax.jit
    @jax.grad
    def derivative(lr):
        sr = module.apply(variables, lr)
        return (weights * sr[:, :, middle * module.scale : (middle + 1) * module.scale]).sum()

    columns = np.flatnonzero(np.asarray(derivative(lr)).any((0, 1, 3)))
    reach = max(middle - columns.min(), columns.max() - middle)
    assert module.receptive_field - 3 * module.size_multiple <= reach <= module.receptive_field
