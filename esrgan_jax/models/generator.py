"""The protocol of generators, which training and upscaling rely on."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp

from esrgan_jax.setting_rule import Rule, is_whole, one_of, whole

COMPUTATION_DTYPES = ("float32", "bfloat16")
COMMON_SETTINGS: dict[str, Rule] = {  # of the generators in this folder
    "num_features": whole(1),
    "num_blocks": whole(1),
    **dict.fromkeys(
        ("in_channels", "out_channels"),
        Rule("3, since training is on RGB", lambda value: is_whole(value) and value == 3),
    ),
    "dtype": one_of(*COMPUTATION_DTYPES),
}

Params = Any  # a pytree of arrays, which Python's types cannot describe
Variables = Mapping[str, Params]  # {"params", and "batch_stats" where there are any}


class Split(NamedTuple):
    """How a generator is computed in steps, for progress and with less memory.

    Such a generator has the methods `head`, `blocks`, `join` and `tail`, see `RRDBNet`:
    `first = head(lr)`, `features = join(blocks(first), first)`, the result is `tail(features)`.
    `trunk` is all but the tail. Features have the LR size divided by `size_multiple`. The
    parameters of the blocks are stacked under "body", and `clone(num_blocks=1)` has one of them.

    Attributes:
        num_blocks: The blocks.
        tail_field: Pixels that `tail` sees around one, at its input's size.
        block_macs: Multiply-accumulates of one block for a pixel of features.
        tail_macs: Likewise of `tail`.
    """

    num_blocks: int
    tail_field: int
    block_macs: int
    tail_macs: int


class Generator(Protocol):
    """A Linen module from LR images to SR images.

    Inherit it, `class Mine(nn.Module, Generator)`, for defaults of what a network does not say.

    Attributes:
        scale: SR size over LR size.
        in_channels: Channels of the LR image.
        out_channels: Channels of the SR image.
        dtype: Computation dtype, a field of the module.
        settings: What each field may be in a config's `generator` section. `scale` is not among
            them, since the config has it once for the network and the data.
    """

    settings: ClassVar[Mapping[str, Rule]] = {"dtype": COMMON_SETTINGS["dtype"]}
    scale: int
    in_channels: int
    out_channels: int
    dtype: jnp.dtype

    @property
    def size_multiple(self) -> int:
        """What LR height and width must be multiples of."""
        return 1

    @property
    def receptive_field(self) -> int | None:
        """LR pixels that a result can depend on, on each side of its own.

        None where it is not known, or where layers pad by other means than `models.borders`
        reaches. Tiles are then cut with the usual overlap and never filled up.
        """
        return None

    @property
    def feature_bytes(self) -> int:
        """Memory of the features that are held at a time, for an LR pixel, about."""
        return 2 * self.dtype.itemsize * 64 * self.scale**2

    @property
    def split(self) -> Split | None:
        """How it is computed in steps; None where it is computed in one go."""
        return None

    def __call__(self, lr: jax.Array, train: bool = False) -> jax.Array:
        """(N, H, W, in_channels) in [0, 1] -> (N, scale H, scale W, out_channels), unclamped."""
        ...

    # Of `nn.Module`.
    def init(self, *args: Any, **kwargs: Any) -> Any: ...
    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any: ...
    def clone(self, **updates: Any) -> Self: ...
