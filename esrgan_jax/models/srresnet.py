"""SRResNet (arXiv 1609.04802), the network that ESRGAN starts from, for the ablations."""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from esrgan_jax.errors import InputError
from esrgan_jax.models.conv import INITIALIZERS, Conv
from esrgan_jax.models.generator import COMMON_SETTINGS
from esrgan_jax.models.pixel_shuffle import pixel_shuffle
from esrgan_jax.setting_rule import FLAG, Rule, one_of


class SRResNet(nn.Module):
    """LR images to SR images by residual blocks and sub-pixel convolutions.

    Attributes:
        num_features: Channels of the trunk.
        num_blocks: Residual blocks of two convolutions each.
        in_channels: Channels of the LR image.
        out_channels: Channels of the SR image.
        scale: SR size over LR size, a power of two.
        normalize: Batch normalisation after the trunk's convolutions, as SRResNet was published;
            without it, the first step of ESRGAN's ablation (paper §4.4).
        initializer: "msra", "msra_tenth" or "torch".
        dtype: Computation dtype of all but the last convolution, which stays float32.
    """

    settings: ClassVar[Mapping[str, Rule]] = COMMON_SETTINGS | {
        "normalize": FLAG,
        "initializer": one_of(*INITIALIZERS),
    }
    num_features: int = 64
    num_blocks: int = 16
    in_channels: int = 3
    out_channels: int = 3
    scale: int = 4
    normalize: bool = True
    initializer: str = "msra"
    dtype: jnp.dtype = jnp.dtype("float32")

    @property
    def size_multiple(self) -> int:
        return 1

    @property
    def receptive_field(self) -> int:
        return 4 + 2 * self.num_blocks + 1 + 2 + -(-4 // self.scale)

    @property
    def feature_bytes(self) -> int:
        """XLA keeps three feature maps at the size of the result."""
        return 3 * self.dtype.itemsize * self.num_features * self.scale**2

    @property
    def split(self) -> None:
        return None

    @nn.compact
    def __call__(self, lr: jax.Array, train: bool = False) -> jax.Array:
        """(N, H, W, in_channels) in [0, 1] -> (N, scale H, scale W, out_channels), unclamped.

        In training with `normalize`, apply it with `mutable=["batch_stats"]`.
        """
        if self.scale < 1 or self.scale & (self.scale - 1):
            raise InputError(f"SRResNet's scale is a power of two, not {self.scale}")

        def conv(x: jax.Array, name: str, features: int = self.num_features, size: int = 3):
            dtype = jnp.dtype("float32") if name == "conv_last" else self.dtype
            layer = Conv(features, size, initializer=self.initializer, dtype=dtype, name=name)
            return layer(x)

        def norm(x: jax.Array, name: str) -> jax.Array:
            if not self.normalize:
                return x
            layer = nn.BatchNorm(
                use_running_average=not train,
                momentum=0.9,
                epsilon=1e-5,
                use_fast_variance=False,  # E[x²] - E[x]² cancels where the mean is large
                dtype=self.dtype,
                name=name,
            )
            return layer(x)

        def prelu(x: jax.Array, name: str) -> jax.Array:
            slope = self.param(name, nn.initializers.constant(0.25), (x.shape[-1],))
            return jnp.where(x >= 0, x, slope.astype(x.dtype).reshape(1, 1, 1, -1) * x)

        first = x = prelu(conv(lr, "conv_first", size=9), "prelu_first")
        for index in range(self.num_blocks):
            y = norm(conv(x, f"body_{index}_conv1"), f"body_{index}_bn1")
            y = prelu(y, f"body_{index}_prelu")
            x += norm(conv(y, f"body_{index}_conv2"), f"body_{index}_bn2")
        x = first + norm(conv(x, "conv_body"), "bn_body")
        for index in range(1, self.scale.bit_length()):
            x = conv(x, f"conv_up{index}", 4 * self.num_features)
            x = prelu(pixel_shuffle(x, 2), f"prelu_up{index}")
        return conv(x, "conv_last", self.out_channels, 9)
