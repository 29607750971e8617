"""Tests of VGGFeatures: layers, the compiled program, values against NumPy, a photograph."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import read_image
from esrgan_jax.interop import vgg_names
from esrgan_jax.models.vgg import VGGFeatures, layer_names, max_pool

DEEPEST = {16: "5_3", 19: "5_4"}


@functools.cache
def abstract_params(layers, depth=19):
    image = jnp.zeros((1, 32, 32, 3))
    return jax.eval_shape(VGGFeatures(layers, depth).init, jax.random.key(0), image)["params"]


@pytest.mark.parametrize(("depth", "counts"), [(16, (2, 2, 3, 3, 3)), (19, (2, 2, 4, 4, 4))])
def test_layer_names(depth, counts):
    names = layer_names(depth)
    assert names[:5] == ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "conv2_1"]
    assert names[-2:] == [f"conv{DEEPEST[depth]}", f"relu{DEEPEST[depth]}"]
    assert len(names) == len(set(names)) == 2 * sum(counts)
    for stage, count in enumerate(counts, 1):
        assert sum(name.startswith(f"conv{stage}") for name in names) == count


@pytest.mark.parametrize("depth", [16, 19])
def test_all_layers_have_the_expected_shapes(depth):
    names = tuple(layer_names(depth))
    features = jax.eval_shape(
        VGGFeatures(names, depth).apply,
        {"params": abstract_params(names, depth)},
        jnp.zeros((2, 64, 48, 3)),
    )
    assert set(features) == set(names)
    for name, feature in features.items():
        stage = int(name[4])
        width = (64, 128, 256, 512, 512)[stage - 1]
        shrunk = 2 ** (stage - 1)
        assert feature.shape == (2, 64 // shrunk, 48 // shrunk, width)
        assert feature.dtype == jnp.float32


@pytest.mark.parametrize(
    ("layers", "depth", "convs", "relus", "pools"),
    [
        (("conv5_4",), 19, 16, 15, 4),
        (("relu5_4",), 19, 16, 16, 4),
        (("conv3_3",), 16, 7, 6, 2),
        (("relu5_3",), 16, 13, 13, 4),
        (("conv1_1",), 19, 1, 0, 0),
        (("relu2_2", "conv1_2"), 19, 4, 4, 1),
    ],
)
def test_layers_after_the_deepest_one_are_not_computed(layers, depth, convs, relus, pools):
    params = abstract_params(layers, depth)
    assert sum(name.startswith("conv") for name in params) == convs
    image = jnp.zeros((1, 32, 32, 3))
    apply = VGGFeatures(layers, depth).apply
    traced = jax.jit(apply).trace({"params": params}, image)
    program = str(traced.jaxpr)
    lowered = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert lowered.count("stablehlo.convolution") == convs
    assert program.count("= ge ") == 2 * pools
    assert program.count("= custom_jvp_call[") == relus


def test_only_parameters_of_needed_layers_are_required():
    params = abstract_params(("conv2_1",))
    apply = functools.partial(jax.eval_shape, VGGFeatures(("relu1_2",)).apply)
    image = jnp.zeros((1, 8, 8, 3))
    needed = {name: leaf for name, leaf in params.items() if name != "conv2_1"}
    assert set(apply({"params": needed}, image)) == {"relu1_2"}
    assert set(apply({"params": params}, image)) == {"relu1_2"}  # others are ignored


@pytest.mark.parametrize(
    ("layers", "depth"), [(("conv5_5",), 19), (("conv5_4",), 16), (("pool1",), 19), ((), 19)]
)
def test_unknown_layers_are_refused(layers, depth):
    with pytest.raises(InputError, match=rf"VGG{depth} has no layer .*it has conv1_1, relu1_1"):
        abstract_params(layers, depth)


def convolve(x, layer):
    kernel = np.asarray(layer["kernel"], np.float64)
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    return np.einsum("nhwcyx,yxco->nhwo", windows, kernel, optimize=True) + layer["bias"]


def compute(params, rgb, *layers, dtype="float32") -> Any:
    apply = jax.jit(VGGFeatures(layers, dtype=jnp.dtype(dtype)).apply)
    return apply({"params": params}, rgb)


@pytest.fixture(scope="module")
def random_case():
    """Parameters down to conv2_1 with all kinds of preprocessing, and images beyond [0, 1]."""
    rng = np.random.default_rng(4)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32),
        {name: leaf for name, leaf in abstract_params(("conv2_1",)).items() if "conv" in name},
    )
    params["input"] = {
        "order": np.array([1, 2, 0]),  # not its own inverse
        "scale": np.float32(3),
        "mean": np.array([0.2, 1.1, 2.3], np.float32),
        "std": np.array([0.5, 1.7, 0.9], np.float32),
    }
    params["feature_scale"] = np.float32(0.25)
    return params, rng.uniform(-0.3, 1.4, (2, 10, 12, 3)).astype(np.float32)


def test_features_match_numpy(random_case):
    params, rgb = random_case
    features = compute(params, rgb, "conv2_1", "conv1_1", "relu1_2", "conv1_2")

    seen = 3 * np.stack([rgb[..., 1], rgb[..., 2], rgb[..., 0]], -1).astype(np.float64)
    seen = (seen - params["input"]["mean"]) / params["input"]["std"]
    conv1_1 = convolve(seen, params["conv1_1"])
    conv1_2 = convolve(np.maximum(conv1_1, 0), params["conv1_2"])
    relu1_2 = np.maximum(conv1_2, 0)
    pooled = relu1_2.reshape(2, 5, 2, 6, 2, 64).max((2, 4))
    expected = {
        "conv1_1": conv1_1,
        "conv1_2": conv1_2,
        "relu1_2": relu1_2,
        "conv2_1": convolve(pooled, params["conv2_1"]),
    }
    assert set(features) == set(expected)
    for name, feature in expected.items():
        np.testing.assert_allclose(features[name], 0.25 * feature, rtol=1e-5, atol=1e-5)
    assert conv1_2.min() < -0.1


def test_pooling_and_its_gradient_equal_those_of_flax(rng):
    x = rng.integers(0, 4, (2, 9, 12, 3)).astype(np.float32)  # many equal values
    g = rng.random((2, 4, 6, 3), np.float32)

    def with_gradient(pool):
        def run(x):
            y, back = jax.vjp(pool, x)
            return y, *back(g)

        return jax.jit(run)(x)

    flax_pool = functools.partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2))
    for found, expected in zip(with_gradient(max_pool), with_gradient(flax_pool), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_gray_images_count_as_rgb(rng):
    gray = rng.random((1, 8, 8, 1), np.float32)
    vgg = VGGFeatures(("conv1_1",))
    params = jax.jit(vgg.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    apply = jax.jit(vgg.apply)
    of_gray, of_rgb = (apply(params, image)["conv1_1"] for image in (gray, gray.repeat(3, -1)))
    np.testing.assert_array_equal(of_gray, of_rgb)


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_pooling_does_not_hide_a_nan(place):
    x = np.zeros((1, 2, 4, 1), np.float32)
    x[0][place] = np.nan
    np.testing.assert_array_equal(jax.jit(max_pool)(x).ravel(), [np.nan, 0])


def test_pooling_drops_the_last_row_and_column_of_odd_sizes(random_case):
    params, rgb = random_case
    features = jax.eval_shape(lambda x: compute(params, x, "conv2_1"), rgb[:, :9, :11])
    assert features["conv2_1"].shape == (2, 4, 5, 128)


def test_features_computed_in_bfloat16_are_float32(random_case):
    params, rgb = random_case
    expected = compute(params, rgb, "conv2_1")["conv2_1"]
    features = compute(params, rgb, "conv2_1", dtype="bfloat16")["conv2_1"]
    assert features.dtype == jnp.float32
    error = np.abs(np.asarray(features) - expected).max() / np.std(expected)
    assert 1e-4 < error < 0.1


def test_the_gradient_of_the_image_has_its_closed_form(random_case):
    """Also for values beyond [0, 1], since images are not clamped."""
    params, rgb = random_case

    def loss(rgb):
        return compute(params, rgb, "conv1_1")["conv1_1"].sum()

    gradient = jax.jit(jax.grad(loss))(rgb)
    # conv1_1 is linear: away from the border the gradient is the same at every pixel.
    column_sums = np.asarray(params["conv1_1"]["kernel"], np.float64).sum((0, 1, 3))
    expected = 0.25 * 3 * (column_sums / params["input"]["std"])[[2, 0, 1]]
    np.testing.assert_allclose(gradient[:, 1:-1, 1:-1].reshape(-1, 3).mean(0), expected, rtol=1e-4)
    assert np.ptp(gradient[:, 1:-1, 1:-1].reshape(-1, 3), axis=0).max() < 1e-4


def test_published_vgg19_on_a_photograph(shared_data):
    with np.load(shared_data / "vgg" / "vgg19_caffe_conv.npz") as tensors:
        depth, params = vgg_names.from_torch(dict(tensors), "caffe")
    assert depth == 19
    baby = read_image(shared_data / "set5" / "baby.png")[144:368, 144:368]
    rgb = np.float32(baby[None]) / 255
    features = compute(params, rgb, "conv5_4", "relu5_4")
    before, after = np.asarray(features["conv5_4"]), np.asarray(features["relu5_4"])
    assert before.shape == after.shape == (1, 14, 14, 512)
    np.testing.assert_array_equal(after, np.maximum(before, 0))
    # On photographs 5 to 6 % are active and the standard deviation is about 30 before scaling.
    assert 0.03 < np.mean(after > 0) < 0.1
    assert 25 < 12.75 * before.std() < 35
