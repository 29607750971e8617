"""The one convolution of all networks: NHWC, torch's explicit zero padding, three initialisers."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from esrgan_jax.errors import InputError

_KERNEL_INIT = {
    # Kaiming He's "MSRA": normal with variance 2 / fan_in.
    "msra": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    # That times 0.1, hence 0.01 in the variance (ESRGAN, supplement §2).
    "msra_tenth": nn.initializers.variance_scaling(0.02, "fan_in", "normal"),
    # torch's default, kaiming_uniform with a = sqrt(5): uniform within 1 / sqrt(fan_in).
    "torch": nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
}


def kernel_init(initializer: str) -> nn.initializers.Initializer:
    """ "msra", "msra_tenth" or "torch", for the kernels of convolutions and dense layers."""
    if initializer not in _KERNEL_INIT:
        raise InputError(f"no initializer {initializer!r}: choose {', '.join(_KERNEL_INIT)}")
    return _KERNEL_INIT[initializer]


def bias_init(initializer: str, fan_in: int) -> nn.initializers.Initializer:
    """What goes with `kernel_init`: zeros, but for "torch" uniform within 1 / sqrt(fan_in)."""
    if initializer != "torch":
        return nn.initializers.zeros_init()

    def uniform(key, shape, dtype=jnp.float32, out_sharding=None):
        return jax.random.uniform(key, shape, dtype, -(fan_in**-0.5), fan_in**-0.5)

    return uniform


class Conv(nn.Module):
    """A square convolution with torch's padding.

    Attributes:
        features: Output channels.
        size: Kernel height and width.
        stride: Step in both directions.
        initializer: "msra", "msra_tenth" or "torch" (see `kernel_init`).
        use_bias: Whether a bias is added.
        dtype: Computation dtype; parameters stay float32.

    Zero padding is (size - 1) // 2 on all four sides: 1 for 3x3, 1 for 4x4 with stride 2, as the
    published networks have it. Flax's "SAME" pads 3x3 with stride 2 on one side only.
    """

    features: int
    size: int = 3
    stride: int = 1
    initializer: str = "msra"
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        padding = (self.size - 1) // 2
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel = self.param("kernel", kernel_init(self.initializer), shape)
        y = lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.stride, self.stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        if self.use_bias:
            init = bias_init(self.initializer, self.size**2 * x.shape[-1])
            bias = self.param("bias", init, (self.features,))
            y += bias.astype(self.dtype).reshape(1, 1, 1, -1)
        return y


def leaky_relu(x: jax.Array) -> jax.Array:
    """The slope of 0.2 that generator and discriminator share."""
    return nn.leaky_relu(x, 0.2)
