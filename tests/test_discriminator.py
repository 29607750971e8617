"""The discriminator against published counts, a NumPy forward pass and sharded batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax import sharding
from esrgan_jax.errors import InputError
from esrgan_jax.models.discriminator import Discriminator

SMALL = Discriminator(num_features=2)


def variable_shapes(network, side, planes=3):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, side, side, planes)))


@pytest.mark.parametrize(
    ("side", "use_bias", "count"),
    [
        (128, True, 14_502_281),
        (128, False, 14_499_401),
        # linear1 maps 512 channels of side / 32 x side / 32 pixels to 100 features
        (96, True, 14_502_281 + 100 * 512 * (3 * 3 - 4 * 4)),
        (192, True, 14_502_281 + 100 * 512 * (6 * 6 - 4 * 4)),
    ],
)
def test_parameter_counts_are_the_published_ones(side, use_bias, count):
    variables = variable_shapes(Discriminator(use_bias=use_bias), side)
    leaves = jax.tree.leaves(variables["params"])
    assert sum(leaf.size for leaf in leaves) == count
    # running mean and variance after nine of the ten convolutions
    stats = sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"]))
    assert stats == 2 * (64 + 2 * (128 + 256 + 512 + 512))


@pytest.mark.parametrize(("height", "width"), [(100, 100), (128, 100), (100, 128), (48, 48)])
def test_patch_sides_must_be_multiples_of_32(height, width):
    with pytest.raises(InputError, match=f"multiples of 32 pixels, not {height}x{width}"):
        jax.eval_shape(SMALL.init, jax.random.key(0), jnp.zeros((1, height, width, 3)))


def test_patches_need_not_be_square():
    logits, _ = jax.eval_shape(
        SMALL.init_with_output, jax.random.key(0), jnp.zeros((5, 32, 96, 3))
    )  # fmt: skip
    assert logits.shape == (5, 1)


def random_variables(network, side, rng):
    """Returns variables that all differ from their initial values; variances are positive."""

    def draw(path, leaf):
        values = rng.normal(0, 0.3, leaf.shape)
        if path[-1].key in ("var", "scale"):
            values = 0.5 + np.abs(values)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(network, side))


@pytest.fixture(scope="module")
def case():
    """Returns variables, a batch of eight, and its logits and new statistics in training."""
    rng = np.random.default_rng(5)
    variables = random_variables(SMALL, 64, rng)
    images = rng.random((8, 64, 64, 3), np.float32)
    return variables, images, *train_step(variables, images)


@functools.partial(jax.jit, static_argnames="network")
def train_step(variables, images, network=SMALL):
    logits, updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
    return logits, updated["batch_stats"]


def convolve(x, layer, stride):
    """Convolves with a zero padding of 1 for both 3x3 with stride 1 and 4x4 with stride 2."""
    kernel = np.asarray(layer["kernel"], np.float64)
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.einsum("nhwcyx,yxco->nhwo", windows, kernel, optimize=True) + layer.get("bias", 0)


def reference(variables, x, train):
    """Returns logits and new running statistics, computed layer by layer in float64."""
    params, stats, updated = variables["params"], variables["batch_stats"], {}
    x = np.asarray(x, np.float64)
    for number in range(5):
        for half, stride in ((0, 1), (1, 2)):
            name = f"{number}_{half}"
            x = convolve(x, params[f"conv{name}"], stride)
            if name != "0_0":
                norm, old = params[f"bn{name}"], stats[f"bn{name}"]
                mean, var = old["mean"], old["var"]
                if train:
                    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                    updated[f"bn{name}"] = {
                        "mean": 0.9 * old["mean"] + 0.1 * mean,
                        "var": 0.9 * old["var"] + 0.1 * var,
                    }
                x = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
            x = np.maximum(x, 0.2 * x)
    x = x.reshape(len(x), -1) @ params["linear1"]["kernel"] + params["linear1"]["bias"]
    x = np.maximum(x, 0.2 * x)
    return x @ params["linear2"]["kernel"] + params["linear2"]["bias"], updated


def assert_trees_close(a, b, rtol):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


def test_training_mode_equals_numpy(case):
    variables, images, logits, stats = case
    expected, updated = reference(variables, images, train=True)
    assert logits.shape == (8, 1)
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-5 * expected.std())
    assert_trees_close(stats, updated, rtol=2e-6)


def test_evaluation_mode_uses_the_running_statistics(case):
    variables, images, _, _ = case
    apply = jax.jit(functools.partial(SMALL.apply, train=False))
    logits = apply(variables, images)
    expected, _ = reference(variables, images, train=False)
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-5 * expected.std())


def test_use_bias_false_removes_biases_before_batch_norm():
    network = Discriminator(num_features=2, use_bias=False)
    params = variable_shapes(network, 32)["params"]
    biased = {name for name, layer in params.items() if "conv" in name and "bias" in layer}
    assert biased == {"conv0_0"}
    rng = np.random.default_rng(6)
    variables, images = random_variables(network, 32, rng), rng.random((4, 32, 32, 3), np.float32)
    logits = jax.jit(functools.partial(network.apply, train=False))(variables, images)
    expected, _ = reference(variables, images, train=False)
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-5 * expected.std())


def test_batch_statistics_are_over_all_eight_devices(case):
    variables, images, logits, stats = case
    mesh = sharding.create_mesh()
    assert mesh.size == 8
    sharded_logits, sharded_stats = train_step(
        jax.device_put(variables, sharding.replicated(mesh)), sharding.put_batch(images, mesh)
    )
    assert len(sharded_logits.sharding.device_set) == 8
    spread = float(np.std(logits))
    np.testing.assert_allclose(sharded_logits, logits, rtol=2e-5, atol=2e-5 * spread)
    assert_trees_close(sharded_stats, stats, rtol=2e-6)
    # The statistics of one device alone would give other logits.
    alone, _ = train_step(variables, images[:1])
    assert abs(float(alone[0, 0] - logits[0, 0])) > 0.1 * spread


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32(case):
    variables, images, logits, _ = case
    network = Discriminator(num_features=2, dtype=jnp.dtype("bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(variable_shapes(network, 64))} == {
        np.dtype("float32")
    }
    low, stats = train_step(variables, images, network)
    assert low.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {np.dtype("float32")}
    error = np.abs(low - logits).mean() / np.std(logits)
    assert 1e-4 < error < 0.2


@pytest.mark.parametrize("initializer", ["msra", "torch"])
def test_initialisers_have_the_right_scale(initializer):
    network = Discriminator(num_features=4, initializer=initializer)
    init = jax.jit(network.init, compiler_options={"xla_backend_optimization_level": 0})
    params = init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    layers = {name: layer for name, layer in params.items() if "bn" not in name}
    assert len(layers) == 12
    biases = []
    for layer in layers.values():
        kernel = np.asarray(layer["kernel"], np.float64)
        fan_in = np.prod(kernel.shape[:-1])
        std = np.sqrt((2 if initializer == "msra" else 1 / 3) / fan_in)
        assert abs(kernel.std() / std - 1) < 5 / np.sqrt(2 * kernel.size)
        biases.append(layer["bias"] * np.sqrt(fan_in))
        if initializer == "torch":
            assert np.abs(kernel).max() <= fan_in**-0.5 * (1 + 1e-6)
    biases = np.concatenate(biases)
    if initializer == "msra":
        assert not np.any(biases)
    else:  # uniform in -1..1
        assert np.abs(biases).max() <= 1 + 1e-6
        assert abs(biases.mean()) < 5 / np.sqrt(3 * biases.size)
        assert abs(np.mean(biases**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / biases.size)
