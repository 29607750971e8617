"""The VGG style discriminator (paper §3.2, after SRGAN)."""

from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from esrgan_jax.errors import InputError
from esrgan_jax.models.conv import INITIALIZERS, Conv, bias_init, kernel_init, leaky_relu
from esrgan_jax.models.generator import COMPUTATION_DTYPES
from esrgan_jax.setting_rule import FLAG, Rule, one_of, whole


class Discriminator(nn.Module):
    """Maps each HR or SR patch to one raw logit.

    Five pairs of convolutions, 3x3 and 4x4 with stride 2, then two dense layers. At 128x128 it has
    exactly 14,502,281 parameters (14,499,401 without the biases before normalisation).

    Attributes:
        num_features: Channels of the first pair; they double up to eight times that.
        use_bias: Biases before batch normalisation, as in the 2019 code; today's BasicSR has
            none.
        initializer: "msra" (the 2019 code) or "torch" (today's BasicSR).
        dtype: Computation dtype; the dense layers stay float32.

    Batch statistics are those of the whole batch, also when it is sharded over devices. PyTorch's
    data parallelism uses those of each device.
    """

    settings: ClassVar[Mapping[str, Rule]] = {
        "num_features": whole(1),
        "use_bias": FLAG,
        "initializer": one_of(*INITIALIZERS),
        "dtype": one_of(*COMPUTATION_DTYPES),
    }
    size_multiple: ClassVar[int] = 32
    fixed_size: ClassVar[bool] = True
    batch_norm: ClassVar[bool] = True
    num_features: int = 64
    use_bias: bool = True
    initializer: str = "msra"
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """(N, P, P, C) in [0, 1], P a multiple of 32 -> logits (N, 1) float32.

        In training, apply it with `mutable=["batch_stats"]`: it normalises with the batch's
        statistics and updates the running ones (torch's momentum 0.1, epsilon 1e-5; Flax keeps
        the biased variance where torch keeps the unbiased, a factor of pixels / (pixels - 1)).
        """
        height, width = x.shape[1:3]
        if height % 32 or width % 32:
            raise InputError(
                f"the discriminator takes multiples of 32 pixels, not {height}x{width}"
            )

        def block(x: jax.Array, name: str, features: int, size: int) -> jax.Array:
            x = Conv(
                features,
                size,
                stride=size - 2,
                initializer=self.initializer,
                use_bias=self.use_bias or name == "0_0",
                dtype=self.dtype,
                name=f"conv{name}",
            )(x)
            if name != "0_0":
                x = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=0.9,
                    epsilon=1e-5,
                    use_fast_variance=False,  # E[x²] - E[x]² cancels where the mean is large
                    dtype=self.dtype,
                    name=f"bn{name}",
                )(x)
            return leaky_relu(x)

        for index, multiple in enumerate((1, 2, 4, 8, 8)):
            x = block(x, f"{index}_0", self.num_features * multiple, 3)
            x = block(x, f"{index}_1", self.num_features * multiple, 4)
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        x = leaky_relu(self._dense(x, 100, "linear1"))
        return self._dense(x, 1, "linear2")

    def _dense(self, x: jax.Array, features: int, name: str) -> jax.Array:
        return nn.Dense(
            features,
            kernel_init=kernel_init(self.initializer),
            bias_init=bias_init(self.initializer, x.shape[-1]),
            name=name,
        )(x)
