"""The convolutions of a dense block against convolutions of the concatenated features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.models import dense_block
from esrgan_jax.models.conv import convolve, leaky_relu
from esrgan_jax.models.dense_block import dense_convolutions, with_residuals
from esrgan_jax.upscaling.borders import borders

FEATURES, GROWTH, OUTPUTS = 6, 4, 5
SHAPE = (2, 7, 9, FEATURES)


def concatenated(x, kernels, biases, skip):
    """The dense block as the paper draws it; ESRGAN+'s residuals as in its code."""
    dense = [x]
    for index in range(4):
        y = leaky_relu(convolve(jnp.concatenate(dense, -1), kernels[index]) + biases[index])
        if skip is not None and index == 1:
            y += convolve(x, skip)
        if skip is not None and index == 3:
            y += dense[2]
        dense.append(y)
    return convolve(jnp.concatenate(dense, -1), kernels[4]) + biases[4]


@pytest.fixture(params=[False, True], ids=["ESRGAN", "ESRGAN+"])
def arguments(request, rng):
    def draw(*shape):
        return jnp.float32(rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape))

    outputs = [GROWTH] * 4 + [OUTPUTS]
    kernels = [draw(3, 3, FEATURES + i * GROWTH, n) for i, n in enumerate(outputs)]
    biases = [draw(1, 1, 1, n) for n in outputs]
    skip = draw(1, 1, FEATURES, GROWTH) if request.param else None
    return jnp.float32(rng.normal(size=SHAPE)), kernels, biases, skip


def ours(x, kernels, biases, skip):
    kernels = kernels if skip is None else with_residuals(kernels, skip)
    return dense_convolutions(x, kernels, biases)


def in_borders(function, sizes):
    def run(*arguments):
        with borders(jnp.array(sizes), *SHAPE[1:3], "mirror"):
            return function(*arguments)

    return run


@pytest.mark.parametrize("sizes", [None, [(7, 9), (4, 5)]], ids=["whole", "in borders"])
def test_result_and_gradients_equal_those_of_concatenated_features(arguments, sizes, rng):
    weights = jnp.float32(rng.normal(size=(*SHAPE[:3], OUTPUTS)))
    results = []
    for function in (ours, concatenated):
        run = function if sizes is None else in_borders(function, sizes)

        @jax.jit
        def with_gradients(*arguments, run=run):
            y, vjp = jax.vjp(run, *arguments)
            return y, vjp(weights)

        results.append(jax.tree.leaves(with_gradients(*arguments)))
    for found, expected in zip(*results, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("border", ["full", "zero", "mirror"])
def test_cpus_use_winograds_method_where_zeros_are_padded(border, rng):
    features, growth = 33, dense_block.LEAST_GROWTH
    kernels = [
        jnp.float32(rng.normal(0, 0.1, (3, 3, features + i * growth, n)))
        for i, n in enumerate([growth] * 4 + [features])
    ]
    biases = [jnp.float32(rng.normal(size=(1, 1, 1, kernel.shape[3]))) for kernel in kernels]
    x, sizes = jnp.float32(rng.normal(size=(2, 10, 6, features))), jnp.array([(10, 6), (7, 4)])

    def run(x, function, *rest):
        with borders(sizes, 10, 6, border):
            return function(x, kernels, biases, *rest)

    traced = jax.jit(lambda x: run(x, dense_convolutions)).trace(x)
    texts = [traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu")]
    counts = [text.count("stablehlo.convolution") for text in texts]
    assert counts == [15 if border == "mirror" else 7 * 6, 5]
    found, expected = traced.lower().compile()(x), jax.jit(lambda x: run(x, concatenated, None))(x)
    for one, other, (height, width) in zip(found, expected, sizes, strict=True):
        one, other = one[:height, :width], other[:height, :width]
        np.testing.assert_allclose(one, other, rtol=0, atol=5e-6 * np.abs(other).max())


def test_nothing_but_features_and_kernels_is_kept(arguments):
    x, kernels, biases, _ = arguments
    kept = jax.tree.leaves(
        jax.eval_shape(lambda *a: jax.vjp(dense_convolutions, *a)[1], x, kernels, biases)
    )
    size = x.size // FEATURES * (FEATURES + 4 * GROWTH) + sum(k.size for k in kernels)
    assert sum(array.size for array in kept) == size


@pytest.mark.parametrize(("platform", "convolutions"), [("tpu", 5), ("cuda", 5), ("cpu", 15)])
def test_accelerators_convolve_each_feature_map_once(arguments, platform, convolutions):
    """CPUs once for each convolution that reads it."""
    traced = jax.jit(ours).trace(*arguments)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == convolutions


def test_forward_mode_is_refused(arguments):
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: ours(x, *arguments[1:]), arguments[:1], arguments[:1])
