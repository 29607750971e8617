"""The U-Net discriminator of Real-ESRGAN (arXiv 2107.10833, §3.4), with spectral normalisation."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from esrgan_jax.errors import InputError
from esrgan_jax.models.conv import INITIALIZERS, Conv, convolve, kernel_init, leaky_relu
from esrgan_jax.models.generator import COMPUTATION_DTYPES
from esrgan_jax.setting_rule import Rule, one_of, whole


class UNetDiscriminator(nn.Module):
    """Maps each pixel of HR or SR patches to a raw logit.

    BasicSR's UNetDiscriminatorSN: three 4x4 convolutions with stride 2, three 3x3 convolutions
    behind bilinear upsampling, each with the features of its size added, and three more. All but
    the first and the last are `SpectralConv`. It has 4,376,897 parameters, and patches may have any
    size that is a multiple of 8.

    Attributes:
        num_features: Channels at full size; they double up to eight times that.
        initializer: "torch" (BasicSR), "msra" or "msra_tenth".
        dtype: Computation dtype; the last convolution stays float32.
    """

    settings: ClassVar[Mapping[str, Rule]] = {
        "num_features": whole(1),
        "initializer": one_of(*INITIALIZERS),
        "dtype": one_of(*COMPUTATION_DTYPES),
    }
    size_multiple: ClassVar[int] = 8
    fixed_size: ClassVar[bool] = False
    batch_norm: ClassVar[bool] = False
    num_features: int = 64
    initializer: str = "torch"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(N, H, W, C) in [0, 1], H and W multiples of 8 -> logits (N, H, W, 1) float32.

        In training, apply it with `mutable=["batch_stats"]`: every call updates the vectors of all
        `SpectralConv`, as in PyTorch.
        """
        if x.shape[1] % 8 or x.shape[2] % 8:
            size = f"{x.shape[1]}x{x.shape[2]}"
            raise InputError(f"the discriminator takes multiples of 8 pixels, not {size}")

        def layer(index: int, x: jax.Array, multiple: int, stride: int = 1) -> jax.Array:
            features, size = self.num_features * multiple, 2 + stride
            common: Any = {
                "initializer": self.initializer,
                "dtype": self.dtype,
                "name": f"conv{index}",
            }
            if index == 0:
                return leaky_relu(Conv(features, size, stride, **common)(x))
            return leaky_relu(SpectralConv(features, size, stride, **common)(x, train))

        down = [layer(0, x, 1)]
        for index, multiple in ((1, 2), (2, 4), (3, 8)):
            down.append(layer(index, down[-1], multiple, stride=2))
        x = down.pop()
        for index, multiple in ((4, 4), (5, 2), (6, 1)):
            x = layer(index, upsample(x), multiple) + down.pop()
        x = layer(8, layer(7, x, 1), 1)
        return Conv(1, initializer=self.initializer, name="conv9")(x.astype(jnp.float32))


class SpectralConv(nn.Module):
    """A convolution without bias, whose kernel is divided by its largest singular value.

    The kernel is taken as a matrix W (features, size² inputs). In training, each call improves the
    estimates u and v of its first singular vectors once: v = Wᵀu / |Wᵀu|, then u = Wv / |Wv|. The
    singular value is uᵀWv, whose gradient with respect to W passes through W alone. This is
    torch.nn.utils.spectral_norm; both vectors are in `batch_stats`, v in the shape of a kernel.

    Attributes:
        features, size, stride, initializer, dtype: As of `Conv`.
    """

    features: int
    size: int = 3
    stride: int = 1
    initializer: str = "torch"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init(self.initializer), shape)
        matrix = lax.stop_gradient(kernel)

        def draw() -> jax.Array:
            return _unit(jax.random.normal(self.make_rng("params"), (self.features,)))

        u = self.variable("batch_stats", "u", draw)
        v = self.variable("batch_stats", "v", lambda: _unit(_dot(matrix, u.value)))
        if train:
            v.value = _unit(_dot(matrix, u.value))
            u.value = _unit(_dot(v.value, matrix, axes=3))
        kernel = kernel / _dot(_dot(v.value, kernel, axes=3), u.value)
        return convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)


def _dot(a: jax.Array, b: jax.Array, axes: int = 1) -> jax.Array:
    # Accelerators would round the factors of these products, which cost next to nothing.
    return jnp.tensordot(a, b, axes, precision=lax.Precision.HIGHEST)


def _unit(vector: jax.Array) -> jax.Array:
    return vector / jnp.maximum(jnp.sqrt(jnp.sum(vector**2)), 1e-12)


def upsample(x: jax.Array) -> jax.Array:
    """Doubles height and width by bilinear interpolation: (N, H, W, C) -> (N, 2H, 2W, C).

    New pixels are a quarter of a pixel from the old ones, and the edge continues outside, as in
    torch's interpolate with align_corners=False.
    """
    for axis in (1, 2):
        first, last = (lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, x.shape[axis] - 1))
        inner = lax.slice_in_dim(x, 0, -1, axis=axis), lax.slice_in_dim(x, 1, None, axis=axis)
        before = jnp.concatenate([first, inner[0]], axis)
        after = jnp.concatenate([inner[1], last], axis)
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        shape = list(x.shape)
        shape[axis] *= 2
        x = pairs.reshape(shape)
    return x
