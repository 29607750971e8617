"""Tests of SRResNet against a count of parameters by hand and a forward pass in NumPy."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.models.pixel_shuffle import pixel_shuffle
from esrgan_jax.models.srresnet import SRResNet

BATCH, SIDE = 3, 6


def abstract(network):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((BATCH, SIDE, SIDE, 3)))


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_number_of_parameters():
    edges = (81 * 3 * 64 + 64) + (81 * 64 * 3 + 3) + 64  # 9x9, and one PReLU
    conv = 9 * 64 * 64 + 64
    blocks = 16 * (2 * conv + 64)
    ups = 2 * (9 * 64 * 256 + 256 + 64)
    norms = 33 * 2 * 64  # scale and bias
    plain = SRResNet(normalize=False)
    assert size(abstract(plain)) == edges + blocks + conv + ups == 1_546_435
    variables = abstract(SRResNet())
    assert size(variables["params"]) == 1_546_435 + norms
    assert size(variables["batch_stats"]) == norms


def test_batch_statistics_exist_only_with_normalisation():
    assert set(abstract(SRResNet())) == {"params", "batch_stats"}
    assert set(abstract(SRResNet(normalize=False))) == {"params"}


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("normalize", [True, False])
def test_output_shapes(scale, normalize):
    network = SRResNet(8, 2, in_channels=4, out_channels=1, scale=scale, normalize=normalize)
    lr = jnp.zeros((2, 5, 7, 4))
    sr, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), lr)
    assert (sr.shape, sr.dtype) == ((2, 5 * scale, 7 * scale, 1), jnp.float32)


@pytest.mark.parametrize("scale", [0, 3, -2])
def test_other_scales_are_refused(scale):
    with pytest.raises(InputError, match=f"power of two, not {scale}"):
        abstract(SRResNet(scale=scale))


def test_pixel_shuffle_has_the_channel_order_of_torch(rng):
    x = rng.random((2, 3, 5, 8), np.float32)
    y = pixel_shuffle(jnp.asarray(x), 2)
    assert y.shape == (2, 6, 10, 2)
    for n, row, column, c in np.ndindex(y.shape):
        assert (
            y[n, row, column, c] == x[n, row // 2, column // 2, 4 * c + 2 * (row % 2) + column % 2]
        )


def convolve(x, layer):
    kernel = np.asarray(layer["kernel"], np.float64)
    pad = kernel.shape[0] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwcyx,yxco->nhwo", windows, kernel, optimize=True) + layer["bias"]


def reference(network, variables, x, train):
    """Returns SR and new running statistics, computed in float64 (SRGAN paper, figure 4)."""
    params, stats, updated = variables["params"], variables.get("batch_stats", {}), {}

    def norm(x, name):
        if not network.normalize:
            return x
        mean, var = stats[name]["mean"], stats[name]["var"]
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            updated[name] = {
                "mean": 0.9 * stats[name]["mean"] + 0.1 * mean,
                "var": 0.9 * stats[name]["var"] + 0.1 * var,
            }
        return (x - mean) / np.sqrt(var + 1e-5) * params[name]["scale"] + params[name]["bias"]

    def prelu(x, name):
        return np.where(x < 0, x * params[name], x)

    x = first = prelu(convolve(x, params["conv_first"]), "prelu_first")
    for i in range(network.num_blocks):
        y = norm(convolve(x, params[f"body_{i}_conv1"]), f"body_{i}_bn1")
        y = prelu(y, f"body_{i}_prelu")
        x = x + norm(convolve(y, params[f"body_{i}_conv2"]), f"body_{i}_bn2")
    x = norm(convolve(x, params["conv_body"]), "bn_body") + first
    for i in range(1, int(np.log2(network.scale)) + 1):
        x = convolve(x, params[f"conv_up{i}"])
        y = np.empty((len(x), 2 * x.shape[1], 2 * x.shape[2], x.shape[3] // 4))
        for dy, dx in np.ndindex(2, 2):
            y[:, dy::2, dx::2] = x[..., 2 * dy + dx :: 4]
        x = prelu(y, f"prelu_up{i}")
    return convolve(x, params["conv_last"]), updated


@pytest.mark.parametrize(
    ("normalize", "scale", "train"),
    [(True, 4, True), (True, 2, False), (False, 2, True), (False, 1, False)],
)
def test_the_forward_pass_matches_numpy(normalize, scale, train, rng):
    network = SRResNet(4, 2, scale=scale, normalize=normalize)

    def draw(path, leaf):
        values = rng.normal(0, 0.15, leaf.shape)
        if path[-1].key in ("var", "scale"):
            values = 0.5 + np.abs(values)
        return values.astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, abstract(network))
    lr = rng.random((BATCH, SIDE, SIDE, 3), np.float32)
    apply = functools.partial(network.apply, train=train, mutable=["batch_stats"])
    sr, updated = jax.jit(apply)(variables, lr)
    expected, stats = reference(network, variables, lr, train)
    assert expected.std() > 0.1
    np.testing.assert_allclose(sr, expected, rtol=1e-5, atol=1e-5)
    if normalize and not train:
        stats = variables["batch_stats"]
    assert jax.tree.structure(updated.get("batch_stats", {})) == jax.tree.structure(stats)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        updated.get("batch_stats", {}),
        stats,
    )


def test_bfloat16_keeps_parameters_and_output_in_float32():
    network = SRResNet(4, 1, dtype=jnp.dtype("bfloat16"))
    variables = abstract(network)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    program = str(jax.make_jaxpr(network.apply)(variables, jnp.zeros((1, 4, 4, 3))))
    dtypes = re.findall(r":(\w+)\[[\d,]*\] = conv_general_dilated", program)
    assert dtypes == ["bf16"] * 6 + ["f32"]
    assert jax.eval_shape(network.apply, variables, jnp.zeros((1, 4, 4, 3))).dtype == jnp.float32
