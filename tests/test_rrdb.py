"""RRDBNet against published counts, a NumPy forward pass, and its own other forms."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.models.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from esrgan_jax.models.rrdb import RRDBNet

# The compiler's optimisations cost far more time here than they save.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
TINY: dict[str, Any] = {"num_features": 6, "num_growth": 3, "num_blocks": 2}


def abstract_params(network, columns=3):
    size = 4 * network.unshuffle
    return jax.eval_shape(
        network.init, jax.random.key(0), jnp.zeros((1, size, size, columns))
    )["params"]  # fmt: skip


def random_params(network, rng, columns=3):
    """Large enough for every path to be seen in the output, biases included."""
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.15, leaf.shape).astype(np.float32),
        abstract_params(network, columns),
    )


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 16_697_987),
        ({"scale": 2, "unshuffle": 2}, 16_703_171),
        ({"scale": 1, "unshuffle": 4}, 16_723_907),
        ({"num_blocks": 6}, 4_467_779),
        ({"plus": True}, 16_697_987 + 23 * 3 * 64 * 32),
        # two more x2 steps; one channel less at either end
        ({"scale": 16}, 16_697_987 + 2 * (9 * 64 * 64 + 64)),
        ({"in_channels": 2, "out_channels": 2}, 16_697_987 - 2 * 9 * 64 - 1),
    ],
)
def test_number_of_parameters(fields, count):
    network = RRDBNet(**fields)
    leaves = jax.tree.leaves(abstract_params(network, network.in_channels))
    assert sum(leaf.size for leaf in leaves) == count
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16])
def test_output_shapes(scale, unshuffle):
    network = RRDBNet(**TINY, in_channels=4, out_channels=1, scale=scale, unshuffle=unshuffle)
    lr = jnp.zeros((2, 8, 12, 4))
    sr, variables = jax.eval_shape(network.init_with_output, jax.random.key(0), lr)
    assert (sr.shape, sr.dtype) == ((2, 8 * scale, 12 * scale, 1), jnp.float32)
    assert list(variables) == ["params"]


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 3, "unshuffle": 2},
        *({"scale": scale} for scale in (0, 5, 64)),
        *({"unshuffle": unshuffle} for unshuffle in (0, 3)),
    ],
)
def test_other_scales_are_refused(fields):
    with pytest.raises(InputError, match="RRDBNet has scales 1, 2, 4, 8, 16, 32 with unshuffle"):
        jax.eval_shape(RRDBNet(**TINY, **fields).init, jax.random.key(0), jnp.zeros((1, 12, 12, 3)))


def test_unknown_initializer_is_refused():
    with pytest.raises(InputError, match="initializer is 'msar'"):
        abstract_params(RRDBNet(**TINY, initializer="msar"))


def convolve(x, layer):
    """Stride 1, zeros around; NHWC and HWIO."""
    kernel = np.asarray(layer["kernel"], np.float64)
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("nhwcyx,yxco->nhwo", windows, kernel, optimize=True) + layer.get("bias", 0)


def lrelu(x):
    return np.maximum(x, 0.2 * x)


def dense_block(x, layers, plus):
    x1 = lrelu(convolve(x, layers["conv1"]))
    x2 = lrelu(convolve(np.concatenate((x, x1), -1), layers["conv2"]))
    if plus:
        x2 = x2 + convolve(x, layers["conv1x1"])
    x3 = lrelu(convolve(np.concatenate((x, x1, x2), -1), layers["conv3"]))
    x4 = lrelu(convolve(np.concatenate((x, x1, x2, x3), -1), layers["conv4"]))
    if plus:
        x4 = x4 + x2
    x5 = convolve(np.concatenate((x, x1, x2, x3, x4), -1), layers["conv5"])
    return 0.2 * x5 + x


def reference(network, params, lr):
    """The network as the paper's figure 4 draws it, in float64."""
    f = network.unshuffle
    n, h, w, c = lr.shape
    x = np.zeros((n, h // f, w // f, c * f * f))
    for index in np.ndindex(c, f, f):
        plane, dy, dx = index
        x[..., plane * f * f + dy * f + dx] = lr[:, dy::f, dx::f, plane]
    first = x = convolve(x, params["conv_first"])
    for number in range(network.num_blocks):
        block = jax.tree.map(lambda leaf, n=number: leaf[n], params["body"])
        y = x
        for name in ("rdb1", "rdb2", "rdb3"):
            y = dense_block(y, block[name], network.plus)
        x = 0.2 * y + x
    x = first + convolve(x, params["conv_body"])
    for number in range(int(np.log2(network.scale * f))):
        rows, columns = (np.arange(2 * side) // 2 for side in x.shape[1:3])
        x = lrelu(convolve(x[:, rows][:, :, columns], params[f"conv_up{number + 1}"]))
    return convolve(lrelu(convolve(x, params["conv_hr"])), params["conv_last"])


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": 4},
        {"scale": 1},
        {"scale": 2, "unshuffle": 2, "in_channels": 2, "out_channels": 1},
        {"scale": 2, "plus": True, "unroll": True},
    ],
)
def test_forward_pass_equals_numpy(fields, rng):
    network = RRDBNet(**TINY, **fields)
    params = random_params(network, rng, network.in_channels)
    lr = rng.uniform(-0.5, 1.5, (2, 6, 8, network.in_channels)).astype(np.float32)
    sr = jit(network.apply)({"params": params}, lr)
    expected = reference(network, params, lr)
    assert expected.std() > 0.1
    np.testing.assert_allclose(sr, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def rolled():
    """A batch, parameters, and the value and gradients of the form that all others equal."""
    rng = np.random.default_rng(3)
    params = random_params(RRDBNet(**TINY, scale=2), rng)
    lr, hr = (rng.random((2, side, side, 3), np.float32) for side in (8, 16))
    return params, lr, hr, value_and_grad(params, lr, hr)


def value_and_grad(params, lr, hr, **fields):
    def loss(params, lr):
        sr = RRDBNet(**TINY, scale=2, **fields).apply({"params": params}, lr)
        return jnp.mean(jnp.square(sr - hr))

    return jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, lr)


@pytest.mark.parametrize(("unroll", "remat"), [(True, False), (False, True), (True, True)])
def test_all_forms_agree(rolled, unroll, remat):
    params, lr, hr, expected = rolled
    got = value_and_grad(params, lr, hr, unroll=unroll, remat=remat)
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), got, expected)


@pytest.mark.parametrize(("unroll", "loops"), [(False, 1), (True, 0)], ids=["rolled", "unrolled"])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_unrolling_leaves_no_loop(unroll, loops, num_blocks):
    network = RRDBNet(**TINY | {"num_blocks": num_blocks}, unroll=unroll)
    params = abstract_params(network)
    assert params["body"]["rdb3"]["conv5"]["kernel"].shape == (num_blocks, 3, 3, 18, 6)
    lowered = jax.jit(network.apply).lower({"params": params}, jnp.zeros((1, 4, 4, 3)))
    assert lowered.as_text().count("stablehlo.while") == loops


def test_rolled_dense_blocks_give_the_same_features(rng):
    network = RRDBNet(**TINY, plus=True)
    params, x = random_params(network, rng), rng.normal(size=(1, 5, 4, 6)).astype(np.float32)
    apply = jax.jit(network.apply, static_argnames=("method", "rolled"))
    found, expected = (
        apply({"params": params}, x, method="blocks", rolled=rolled) for rolled in (True, False)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@functools.cache
def fresh(initializer):
    """Each layer's parameters of a new network, the blocks apart, with its fan-in."""
    network = RRDBNet(num_features=32, num_growth=16, num_blocks=2, plus=True,
                      initializer=initializer)  # fmt: skip
    variables = jit(network.init)(jax.random.key(2), jnp.zeros((1, 4, 4, 3)))
    layers = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        *names, kind = (key.key for key in path)
        parts = leaf if names[0] == "body" else [leaf]
        for index, part in enumerate(parts):
            layers.setdefault((*names, index), {})[kind] = np.asarray(part, np.float64)
    return [(n, layer, np.prod(layer["kernel"].shape[:3])) for n, layer in layers.items()]


def assert_msra_tenth(layer, fan_in):
    unit = layer["kernel"] / (0.1 * np.sqrt(2 / fan_in))
    assert abs(unit.std() - 1) < 5 / np.sqrt(2 * unit.size)
    assert abs(unit.mean()) < 5 / np.sqrt(unit.size)
    assert abs(np.mean(unit**4) - 3) < 5 * np.sqrt(96 / unit.size)  # normal, not truncated
    assert not np.any(layer.get("bias", 0))


def assert_torch_default(layer, fan_in):
    unit = layer["kernel"] * np.sqrt(fan_in)
    assert np.abs(unit).max() <= 1 + 1e-6
    assert abs(np.mean(unit**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / unit.size)
    assert abs(unit.mean()) < 5 / np.sqrt(3 * unit.size)
    bias = layer["bias"] * np.sqrt(fan_in)
    assert np.abs(bias).max() <= 1 + 1e-6
    assert abs(np.mean(bias**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / bias.size)


def test_the_papers_initialiser():
    layers = fresh("msra_tenth")
    assert len(layers) == 2 * 3 * 6 + 6
    for _, layer, fan_in in layers:
        assert_msra_tenth(layer, fan_in)


def test_basicsr_initialiser():
    for name, layer, fan_in in fresh("basicsr"):
        (assert_msra_tenth if name[0] == "body" else assert_torch_default)(layer, fan_in)


def test_no_two_blocks_start_the_same():
    first, second = (
        layer["kernel"] for name, layer, _ in fresh("msra_tenth") if name[1:3] == ("rdb1", "conv1")
    )
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(first.size)


def test_bfloat16_computes_all_but_the_last_convolution(rng):
    network = RRDBNet(**TINY, scale=2, dtype=jnp.dtype("bfloat16"))
    params = random_params(network, rng)
    assert {leaf.dtype for leaf in jax.tree.leaves(abstract_params(network))} == {
        jnp.dtype("float32")
    }
    lr = rng.random((1, 8, 8, 3), np.float32)
    program = str(jax.make_jaxpr(network.apply)({"params": params}, lr))
    dtypes = re.findall(r":(\w+)\[[\d,]*\] = conv_general_dilated", program)
    assert dtypes == ["bf16"] * (len(dtypes) - 1) + ["f32"]
    # The forms of a dense block for accelerators and for CPUs, one upsampling in two parts, and
    # four layers.
    assert len(dtypes) == 5 + 15 + 2 + 4
    sr = jit(network.apply)({"params": params}, lr)
    assert sr.dtype == jnp.float32
    expected = reference(network, params, lr)
    error = np.abs(sr - expected).max() / np.abs(expected).max()
    assert 1e-5 < error < 0.03  # eight bits of mantissa


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pixel_unshuffle_orders_channels_as_torch(factor, rng):
    x = rng.random((2, 4, 8, 3), np.float32)
    y = pixel_unshuffle(jnp.asarray(x), factor)
    assert y.shape == (2, 4 // factor, 8 // factor, 3 * factor**2)
    for n, row, column, channel in np.ndindex(y.shape):
        c, (dy, dx) = channel // factor**2, divmod(channel % factor**2, factor)
        assert y[n, row, column, channel] == x[n, row * factor + dy, column * factor + dx, c]


def test_pixel_unshuffle_refuses_remainders():
    with pytest.raises(InputError, match="6x8 image cannot be unshuffled by 4: pad it"):
        pixel_unshuffle(jnp.zeros((1, 6, 8, 3)), 4)


@pytest.mark.parametrize("unroll", [False, True])
def test_what_is_kept_for_the_gradient_of_a_block(unroll):
    """The features of its dense blocks and its kernels; with remat its input and its parameters."""

    def kept(remat, num_blocks):
        network = RRDBNet(**TINY | {"num_blocks": num_blocks}, unroll=unroll, remat=remat)
        params = abstract_params(network)
        lr = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
        _, backward = jax.eval_shape(
            lambda p, x: jax.vjp(lambda q: network.apply({"params": q}, x), p), params, lr
        )
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    stacked = abstract_params(RRDBNet(**TINY | {"num_blocks": 1}))["body"]
    params = sum(leaf.size for leaf in jax.tree.leaves(stacked))
    kernels = sum(leaf.size for leaf in jax.tree.leaves(stacked) if len(leaf.shape) > 2)
    features = TINY["num_features"]
    dense = features + 4 * TINY["num_growth"]
    assert 0 < kept(True, 4) - kept(True, 3) <= params + 16 * 16 * features
    assert kept(False, 4) - kept(False, 3) == kernels + 16 * 16 * 3 * dense


def test_pixel_shuffle_undoes_pixel_unshuffle(rng):
    x = rng.random((2, 6, 12, 5), np.float32)
    for factor in (2, 3):
        np.testing.assert_array_equal(pixel_shuffle(pixel_unshuffle(x, factor), factor), x)


@pytest.mark.parametrize("upsampler", ["upconv", "pixelshuffle"])
def test_scale_3(upsampler):
    module = RRDBNet(num_features=4, num_growth=2, num_blocks=1, scale=3, upsampler=upsampler)
    sr, variables = module.init_with_output(jax.random.key(0), jnp.zeros((1, 5, 7, 3)))
    assert sr.shape == (1, 15, 21, 3)
    rows = {"upconv": 4, "pixelshuffle": 36}[upsampler]
    assert variables["params"]["conv_up1"]["kernel"].shape == (3, 3, 4, rows)
