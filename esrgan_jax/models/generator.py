"""The protocol of generators: what training and upscaling need from a network."""

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
        Rule("3 for RGB or 1 for gray", lambda value: is_whole(value) and value in (1, 3)),
    ),
    "dtype": one_of(*COMPUTATION_DTYPES),
}

Params = Any  # a pytree of arrays, which Python's types cannot describe
Variables = Mapping[str, Params]  # {"params": …}, and "batch_stats" if the network has them


class Split(NamedTuple):
    """How a generator can be computed in steps, to report progress and to need less memory.

    Such a generator has the methods `head`, `blocks`, `join` and `tail`, see `RRDBNet`:
    `first = head(lr)`, `features = join(blocks(first), first)`, the result is `tail(features)`.
    `trunk` computes the features from the LR image. Features have the LR size divided by
    `size_multiple`. The parameters of the blocks are stacked under "body", and
    `clone(num_blocks=1)` has one of them.

    Attributes:
        num_blocks: Number of blocks.
        tail_field: Receptive field of `tail`: pixels of its input on each side of a pixel.
        block_macs: Multiply-accumulates of one block per pixel of features.
        tail_macs: Multiply-accumulates of `tail` per pixel of features.
    """

    num_blocks: int
    tail_field: int
    block_macs: int
    tail_macs: int


class Generator(Protocol):
    """A Linen module from LR images to SR images.

    Inherit it, `class Mine(nn.Module, Generator)`, for the defaults of properties and `settings`.

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
        """The number that LR height and width must be multiples of."""
        return 1

    @property
    def receptive_field(self) -> int | None:
        """LR pixels on each side of a pixel that its result can depend on.

        None if it is not known, or if a layer pads other than by `models.conv.Conv`. Tiles then
        have the usual overlap, and are never padded to a common size.
        """
        return None

    @property
    def feature_bytes(self) -> int:
        """Approximate memory of the features that exist at the same time, in bytes per LR pixel."""
        return 2 * self.dtype.itemsize * 64 * self.scale**2

    @property
    def split(self) -> Split | None:
        """How it can be computed in steps; None if only as a whole."""
        return None

    def __call__(self, lr: jax.Array, train: bool = False) -> jax.Array:
        """(N, H, W, in_channels) in [0, 1] -> (N, scale H, scale W, out_channels), unclamped."""
        ...

    # Methods of `nn.Module`.
    def init(self, *args: Any, **kwargs: Any) -> Any: ...
    def apply(self, variables: Variables, *args: Any, **kwargs: Any) -> Any: ...
    def clone(self, **updates: Any) -> Self: ...
