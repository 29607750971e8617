"""The convolution and its gradients against XLA's own and against a sum written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from esrgan_jax.models import conv
from esrgan_jax.models.conv import convolve


def by_xla(x, kernel, stride):
    pad = (kernel.shape[0] - 1) // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def gradients(function, x, kernel, g, stride):
    y, vjp = jax.vjp(lambda x, kernel: function(x, kernel, stride), x, kernel)
    return y, *vjp(g.reshape(y.shape))


# (batch, height, width), inputs, outputs, size, stride
CASES = [
    ((3, 8, 6), 5, 4, 3, 1),
    ((3, 8, 6), 4, 5, 3, 1),  # the narrower of the two is shifted
    ((2, 7, 5), 3, 3, 3, 1),
    ((2, 9, 4), 3, 2, 9, 1),  # a kernel wider than the image
    ((4, 5, 3), 6, 2, 1, 1),
    ((2, 1, 1), 2, 3, 3, 1),
    ((2, 8, 12), 3, 4, 4, 2),
    ((1, 13, 11), 4, 3, 3, 2),
]


@pytest.mark.parametrize("strip", [1, 24, 10**6])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_xla_s_own(case, strip, rng, monkeypatch):
    monkeypatch.setattr(conv, "STRIP_PIXELS", strip)  # a row at a time, some rows, all at once
    (n, h, w), inputs, outputs, size, stride = case
    x = rng.normal(size=(n, h, w, inputs)).astype(np.float32)
    kernel = rng.normal(size=(size, size, inputs, outputs)).astype(np.float32)
    g = rng.normal(size=jax.eval_shape(lambda: by_xla(x, kernel, stride)).shape)
    for ours, its in zip(
        gradients(convolve, x, kernel, jnp.float32(g), stride),
        gradients(by_xla, x, kernel, jnp.float32(g), stride),
        strict=True,
    ):
        np.testing.assert_allclose(ours, its, atol=2e-6 * np.abs(its).max())


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


def test_accelerators_keep_xla_s_own():
    """The products are lowered for CPUs alone."""
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


def test_bfloat16_is_summed_in_float32():
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)  # 4096 ones: bfloat16 sums of them end at 256
    kernel = jnp.zeros((1, 1, 1, 1), jnp.bfloat16)
    _, _, got = gradients(convolve, x, kernel, jnp.ones((1, 64, 64, 1), jnp.bfloat16), 1)
    assert got.dtype == jnp.bfloat16
    assert float(got[0, 0, 0, 0]) == 4096


def test_a_gradient_for_each_image(rng):
    x = jnp.float32(rng.normal(size=(3, 6, 5, 2)))
    kernel = jnp.float32(rng.normal(size=(3, 3, 2, 4)))
    gradient = jax.grad(lambda kernel, x: jnp.sum(convolve(x[None], kernel) ** 2))
    together = jax.vmap(gradient, (None, 0))(kernel, x)
    for one, image in zip(together, x, strict=True):
        np.testing.assert_allclose(one, gradient(kernel, image), rtol=1e-5, atol=1e-5)
