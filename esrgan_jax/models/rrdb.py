"""The generator: residual-in-residual dense blocks without batch normalisation (paper §3.1)."""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from esrgan_jax.errors import InputError
from esrgan_jax.models.conv import INITIALIZERS, Conv, leaky_relu
from esrgan_jax.models.dense_block import dense_convolutions, with_residuals
from esrgan_jax.models.generator import COMMON_SETTINGS, Split
from esrgan_jax.models.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from esrgan_jax.setting_rule import FLAG, Rule, one_of, whole

Layers = tuple[list[jax.Array], list[jax.Array]]  # kernels and biases of a dense block
BETA = 0.2  # residual scaling, at both levels (supplement §2)
RRDB_SCALES = (1, 2, 4, 8, 16, 32)
UNSHUFFLES = (1, 2, 4, 8)
UPSAMPLERS = ("upconv", "pixelshuffle")
TAIL_FIELD = 2  # receptive field of `tail`, in pixels of its input on each side


class RDB(nn.Module):
    """Residual dense block: five convolutions, each reading all features before it.

    With `plus`, ESRGAN+'s (arXiv 2001.08073) two extra residuals: a 1x1 convolution of the input
    is added to the second features and the second to the fourth.
    """

    num_growth: int
    plus: bool
    initializer: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, inputs: int) -> Layers:
        """Returns the kernels and biases of `dense_convolutions`, for so many input channels."""
        conv = partial(Conv, initializer=self.initializer, dtype=self.dtype)
        growth = self.num_growth
        layers = [
            conv(features, name=f"conv{i + 1}").parameters(inputs + i * growth)
            for i, features in enumerate([growth] * 4 + [inputs])
        ]
        kernels, biases = map(list, zip(*layers, strict=True))
        if self.plus:
            skip = conv(growth, 1, use_bias=False, name="conv1x1").parameters(inputs)[0]
            kernels = with_residuals(kernels, skip)
        return kernels, biases


class RRDB(nn.Module):
    """Residual in residual: three dense blocks inside one more scaled residual (paper Fig. 4)."""

    dense_block: Callable[..., RDB]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, rolled: bool = False) -> jax.Array:
        def apply(x: jax.Array, layers: Layers) -> jax.Array:
            return x + BETA * dense_convolutions(x.astype(self.dtype), *layers)

        blocks = [self.dense_block(name=f"rdb{index}")(x.shape[-1]) for index in range(1, 4)]
        if rolled:
            stacked = jax.tree.map(lambda *each: jnp.stack(each), *blocks)
            return x + BETA * lax.scan(lambda x, block: (apply(x, block), None), x, stacked)[0]
        return x + BETA * reduce(apply, blocks, x)


class RRDBNet(nn.Module):
    """The generator of ESRGAN: LR images to SR images.

    Attributes:
        num_features: Channels of the trunk (nf).
        num_growth: Channels that each convolution of a dense block adds (gc).
        num_blocks: RRDBs in the trunk (nb); 23 in the released networks, 6 in the anime model.
        in_channels: Channels of the LR image.
        out_channels: Channels of the SR image.
        scale: SR size over LR size, a power of two from 1 to 32, or 3 without unshuffle.
        unshuffle: 1, 2, 4 or 8: fold blocks of unshuffle² LR pixels into channels first, as
            Real-ESRGAN's x2 and x1 networks do; LR height and width must then be multiples of it.
        plus: ESRGAN+'s extra residuals.
        upsampler: "upconv", nearest neighbour and a convolution as everywhere, or "pixelshuffle",
            a convolution to factor² times the channels, rearranged, as in some early models.
        initializer: "msra_tenth" (the paper's: MSRA times 0.1 everywhere), "msra", "torch" (its
            default), or "basicsr" (today's BasicSR: "msra_tenth" in dense blocks, else "torch").
        unroll: Unrolls the loop over the blocks. The parameters (stacked along a leading axis
            under "body") and the result are the same; compiling takes longer.
        remat: Recompute each block in the backward pass: about a sixth of the memory for a third
            more computation.
        dtype: Computation dtype of all but the last convolution, which stays float32.

    The default has exactly 16,697,987 parameters.
    """

    settings: ClassVar[Mapping[str, Rule]] = COMMON_SETTINGS | {
        "num_growth": whole(1),
        "unshuffle": one_of(*UNSHUFFLES),
        "plus": FLAG,
        "upsampler": one_of(*UPSAMPLERS),
        "initializer": one_of(*INITIALIZERS, "basicsr"),
        "remat": FLAG,
    }
    num_features: int = 64
    num_growth: int = 32
    num_blocks: int = 23
    in_channels: int = 3
    out_channels: int = 3
    scale: int = 4
    unshuffle: int = 1
    plus: bool = False
    upsampler: str = "upconv"
    initializer: str = "msra_tenth"
    unroll: bool = False
    remat: bool = False
    dtype: jnp.dtype = jnp.dtype("float32")

    @property
    def up_factors(self) -> tuple[int, ...]:
        """The scale factor of each upsampling step."""
        if self.upsampler not in UPSAMPLERS:
            raise InputError(f"RRDBNet has no upsampler {self.upsampler}: upconv or pixelshuffle")
        if (self.scale, self.unshuffle) == (3, 1):
            return (3,)
        if self.scale not in RRDB_SCALES or self.unshuffle not in UNSHUFFLES:
            scales, folds = (", ".join(map(str, x)) for x in (RRDB_SCALES, UNSHUFFLES))
            raise InputError(
                f"RRDBNet has scales {scales} with unshuffle {folds}, and scale 3 without; "
                f"not scale {self.scale} with unshuffle {self.unshuffle}"
            )
        return (2,) * ((self.scale * self.unshuffle).bit_length() - 1)

    @property
    def size_multiple(self) -> int:
        return self.unshuffle

    @property
    def receptive_field(self) -> int:
        """LR pixels on each side of a pixel that its result can depend on: 349 for 23 blocks."""
        return self.unshuffle * (15 * self.num_blocks + 2 + TAIL_FIELD)

    @property
    def feature_bytes(self) -> int:
        """The trunk's maps and sums of a dense block's convolutions, as compiled for an H100."""
        channels = 9 * self.num_features + 11 * self.num_growth
        return self.dtype.itemsize * channels // self.unshuffle**2

    @property
    def split(self) -> Split:
        f, g = self.num_features, self.num_growth
        block = 3 * 9 * (g * (4 * f + 6 * g) + f * (f + 4 * g))
        area, tail = 1, 0
        for factor in self.up_factors:
            area *= factor**2
            tail += (4 if self.upsampler == "upconv" else 9) * f * f * area
        tail += 9 * f * (f + self.out_channels) * area
        return Split(self.num_blocks, TAIL_FIELD, block, tail)

    def setup(self) -> None:
        inner, outer = {"basicsr": ("msra_tenth", "torch")}.get(
            self.initializer, (self.initializer, self.initializer)
        )
        nf, conv = self.num_features, partial(Conv, initializer=outer, dtype=self.dtype)
        block = nn.remat(RRDB, prevent_cse=self.unroll, static_argnums=2) if self.remat else RRDB
        self.conv_first = conv(nf)
        dense_block = partial(RDB, self.num_growth, self.plus, inner, self.dtype)
        self.body = block(dense_block, self.dtype)
        self.conv_body = conv(nf)
        for index, factor in enumerate(self.up_factors, 1):
            shuffles = self.upsampler == "pixelshuffle"
            layer = conv(nf * factor**2) if shuffles else conv(nf, upsample=factor)
            setattr(self, f"conv_up{index}", layer)
        self.conv_hr = conv(nf)
        self.conv_last = conv(self.out_channels, dtype=jnp.dtype("float32"))

    def __call__(self, lr: jax.Array, train: bool = False) -> jax.Array:
        """(N, H, W, in_channels) in [0, 1] -> (N, scale H, scale W, out_channels), unclamped.

        `train` changes nothing here: there is no batch normalisation.
        """
        return self.tail(self.trunk(lr))

    def trunk(self, lr: jax.Array) -> jax.Array:
        """Computes the features: (N, H, W, in_channels) -> (N, H/u, W/u, num_features)."""
        first = self.head(lr)
        return self.join(self.blocks(first), first)

    def head(self, lr: jax.Array) -> jax.Array:
        """The layers before the blocks: (N, H, W, in_channels) -> (N, H/u, W/u, num_features)."""
        return self.conv_first(pixel_unshuffle(lr, self.unshuffle))

    def blocks(self, x: jax.Array, rolled: bool = False) -> jax.Array:
        """Applies all blocks: (N, h, w, num_features) -> the same shape.

        `rolled` loops over the three dense blocks of each as well. It compiles in a third of the
        time, but its gradients would be slower.
        """
        loop = nn.scan(
            lambda module, carry, _: (module(carry, rolled), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.num_blocks,
            # One more than the length, since a single block would otherwise still be a loop.
            unroll=self.num_blocks + 1 if self.unroll else 1,
            check_constancy_invariants=False,  # saves tracing the block twice
        )
        return loop(self.body, x, None)[0]

    def join(self, x: jax.Array, first: jax.Array) -> jax.Array:
        """Adds `first`, the result of `head`, to the trunk's last convolution."""
        return self.conv_body(x) + first

    def tail(self, x: jax.Array) -> jax.Array:
        """Upsampling layers: (N, H/u, W/u, num_features) -> (N, scale H, scale W, out_channels)."""
        for index, factor in enumerate(self.up_factors, 1):
            x = getattr(self, f"conv_up{index}")(x)
            x = leaky_relu(pixel_shuffle(x, factor) if self.upsampler == "pixelshuffle" else x)
        return self.conv_last(leaky_relu(self.conv_hr(x)))
