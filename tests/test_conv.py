"""The convolution and its gradients against XLA's convolution and an explicit sum."""

import contextlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from esrgan_jax.models import conv
from esrgan_jax.models.conv import convolve, convolve_upsampled
from esrgan_jax.upscaling.borders import borders


def by_xla(x, kernel, stride):
    pad = (kernel.shape[0] - 1) // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradients(function, x, kernel, g, stride):
    @jax.jit
    def run(x, kernel, g):
        y, vjp = jax.vjp(lambda x, kernel: function(x, kernel, stride), x, kernel)
        return y, *vjp(g.reshape(y.shape))

    return run(x, kernel, g)


def test_initialisers_of_given_parameters_are_not_traced(monkeypatch):
    layer, x = conv.Conv(4, initializer="torch"), jnp.ones((1, 5, 5, 3))
    params = layer.init(jax.random.key(0), x)
    monkeypatch.setattr(conv, "_KERNEL_INIT", {"torch": None})  # cannot be called
    assert layer.apply(params, x).shape == (1, 5, 5, 4)
    with pytest.raises(TypeError):
        layer.init(jax.random.key(0), x)


# (batch, height, width), inputs, outputs, size, stride
CASES = [
    ((3, 8, 6), 5, 4, 3, 1),
    ((3, 8, 6), 4, 5, 3, 1),  # fewer inputs than outputs
    ((2, 7, 5), 3, 3, 3, 1),
    ((2, 9, 4), 3, 2, 9, 1),  # a kernel wider than the image
    ((4, 5, 3), 6, 2, 1, 1),
    ((2, 1, 1), 2, 3, 3, 1),
    ((2, 8, 12), 3, 4, 4, 2),
    ((1, 13, 11), 4, 3, 3, 2),
    ((3, 2, 2), 32, 32, 3, 1),  # on CPUs, kernels that are large for the image are multiplied
    ((2, 5, 3), 4, 64, 4, 2),
    ((2, 16, 9), 128, 130, 3, 1),  # on CPUs, Winograd's method
]


@pytest.mark.parametrize("border", ["zero", "mirror", "wrap", None])
@pytest.mark.parametrize("factor", [2, 3])
def test_convolving_upsampled_images_is_upsampling_and_convolving(factor, border, rng):
    sizes = jnp.array([(6, 5), (3, 4)])
    x = rng.normal(size=(2, 6, 5, 3)).astype(np.float32)
    x[1, 3:], x[1, :, 4:] = 0, 0
    kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    g = jnp.float32(rng.normal(size=(2, 6 * factor, 5 * factor, 4)))
    g *= jnp.repeat(jnp.repeat(x[..., :1] != 0, factor, 1), factor, 2)  # what is image

    def in_two_steps(x, kernel, factor):
        return convolve(x.repeat(factor, 1).repeat(factor, 2), kernel)

    def inside(function):
        with contextlib.nullcontext() if border is None else borders(sizes, 6, 5, border):
            y, *derivatives = gradients(function, x, kernel, g, factor)
        return y * (g != 0), *derivatives

    for ours, expected in zip(inside(convolve_upsampled), inside(in_two_steps), strict=True):
        np.testing.assert_allclose(ours, expected, atol=2e-6 * np.abs(expected).max())


@pytest.mark.parametrize("strip", [1, 24, 10**6])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_equal_those_of_xla(case, strip, rng, monkeypatch):
    monkeypatch.setattr(conv, "STRIP_PIXELS", strip)  # one row, some rows or all rows at a time
    (n, h, w), inputs, outputs, size, stride = case
    x = rng.normal(size=(n, h, w, inputs)).astype(np.float32)
    kernel = rng.normal(size=(size, size, inputs, outputs)).astype(np.float32)
    g = rng.normal(size=jax.eval_shape(lambda: by_xla(x, kernel, stride)).shape)
    limit = 3e-6 if inputs == 128 else 2e-6  # Winograd's method rounds more (test_winograd.py)
    for ours, expected in zip(
        gradients(convolve, x, kernel, jnp.float32(g), stride),
        gradients(by_xla, x, kernel, jnp.float32(g), stride),
        strict=True,
    ):
        np.testing.assert_allclose(ours, expected, atol=limit * np.abs(expected).max())


def test_the_gradient_of_a_kernel_is_a_sum_over_pixels(rng):
    x, g = rng.normal(size=(2, 5, 4, 3)), rng.normal(size=(2, 5, 4, 2))
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.array(
        [
            [np.einsum("nhwc,nhwo->co", padded[:, i : i + 5, j : j + 4], g) for j in range(3)]
            for i in range(3)
        ]
    )
    kernel = jnp.zeros((3, 3, 3, 2))
    _, _, got = gradients(convolve, jnp.float32(x), kernel, jnp.float32(g), 1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_accelerators_use_the_convolutions_of_xla():
    """The matrix products are lowered for CPUs only."""
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 2))
    gradient = jax.jit(jax.grad(lambda kernel: convolve(x, kernel).sum()))
    lowered = {
        platform: gradient.trace(kernel).lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "dot_general" in lowered["cpu"]
    for platform in ("cuda", "tpu"):
        assert "dot_general" not in lowered[platform]
        assert "convolution" in lowered[platform]


def test_on_cpus_the_gradient_of_a_loop_convolves_as_the_result_does():
    """With the kernel's dimensions exchanged ("01oi"), steps of training took twice as long."""

    def loss(x, kernels):
        return lax.scan(lambda x, kernel: (convolve(x, kernel), None), x, kernels)[0].sum()

    step = jax.jit(jax.grad(loss)).lower(jnp.ones((1, 6, 5, 4)), jnp.ones((3, 3, 3, 4, 4)))
    assert set(re.findall(r"dim_labels=(\S+?),? ", step.compile().as_text())) == {"b01f_01io->b01f"}


def test_bfloat16_kernel_gradients_are_summed_in_float32():
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)  # bfloat16 sums of ones stop at 256
    kernel = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
    _, _, got = gradients(convolve, x, kernel, jnp.ones((1, 64, 64, 1), jnp.bfloat16), 1)
    assert got.dtype == jnp.bfloat16
    assert float(got[0, 0, 0, 0]) == 4096


def test_vmapped_gradients_equal_those_of_single_images(rng):
    x = jnp.float32(rng.normal(size=(3, 6, 5, 2)))
    kernel = jnp.float32(rng.normal(size=(3, 3, 2, 4)))
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(convolve(x[None], kernel) ** 2)))
    together = jax.jit(jax.vmap(gradient, (None, 0)))(kernel, x)
    for result, image in zip(together, x, strict=True):
        np.testing.assert_allclose(result, gradient(kernel, image), rtol=1e-5, atol=1e-5)
