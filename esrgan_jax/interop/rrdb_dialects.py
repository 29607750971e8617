"""Layer names of RRDB generators in other public implementations.

Each computes the same as RRDBNet, checked in its source and tested against torch. Networks with
other names may use another slope, padding or range of values, so they are not guessed.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from esrgan_jax.errors import InputError, listed


class Dialect(NamedTuple):
    """The layer names of an implementation.

    Attributes:
        block: Pattern of a convolution in a dense block; its groups are block, dense block, layer.
        first: The number of the first dense block and layer.
        edges: Patterns of the other layers and BasicSR's names for them; {u} counts steps from 1.
        step: The number of the first step of upsampling.
    """

    block: str
    first: int
    edges: Mapping[str, str]
    step: int = 1


DIALECTS = {
    # Lornatang's ESRGAN-PyTorch, and others after it: up1, RDB1 and conv1.0 are of 2020 and 2021.
    "esrgan-pytorch": Dialect(
        r"trunk\.(\d+)\.(?:rdb|RDB)(\d)\.conv(\d)(?:\.0)?",
        1,
        {
            r"conv1": "conv_first",
            r"conv2": "conv_body",
            r"(?:upsampling|up)(\d)(?:\.0)?": "conv_up{u}",
            r"conv3(?:\.0)?": "conv_hr",
            r"conv4": "conv_last",
        },
    ),
    # Aladdin Persson's, of a course that many followed.
    "persson": Dialect(
        r"residuals\.(\d+)\.rrdb\.(\d)\.blocks\.(\d)\.cnn",
        0,
        {
            r"initial": "conv_first",
            r"conv": "conv_body",
            r"upsamples\.(\d)\.conv": "conv_up{u}",
            r"final\.0": "conv_hr",
            r"final\.2": "conv_last",
        },
        step=0,
    ),
}
# The first convolution of a network in any naming, with any prefix.
ANCHORS = (
    *(r"body\.0\.rdb1\.conv1", r"RRDB_trunk\.0\.RDB1\.conv1", r"model\.1\.sub\.0\.RDB1\.conv1\.0"),
    *(r"trunk\.0\.(?:rdb|RDB)1\.conv1(?:\.0)?", r"residuals\.0\.rrdb\.0\.blocks\.0\.cnn"),
    r"res_blocks\.0\.dense_blocks\.0\.b1\.0",
)
ANCHOR = re.compile(rf"((?:[^.]+\.)*?)(?:{'|'.join(ANCHORS)})\.weight")


def without_prefix(
    tensors: Mapping[str, np.ndarray], source: str = "the state_dict"
) -> dict[str, np.ndarray]:
    """Returns the tensors of the RRDB network among these, without the prefix of their names.

    `model.net.body.0…` next to `loss.vgg.…` becomes `body.0…`. Averaged weights are preferred.

    Raises:
        InputError: There are several networks.
    """
    found = list(dict.fromkeys(match[1] for name in tensors if (match := ANCHOR.fullmatch(name))))
    averaged = [prefix for prefix in found if "ema" in prefix.lower()]
    if len(averaged or found) > 1:
        names = listed([prefix.rstrip(".") or "those without a prefix" for prefix in found])
        raise InputError(f"{source}: holds several networks: {names}; choose one by a --key")
    prefix = next(iter(averaged or found), "")
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}


def find_dialect(names: Mapping[str, object]) -> str | None:
    """Returns the key of DIALECTS that the names follow, or None."""
    for name, dialect in DIALECTS.items():
        if any(re.fullmatch(rf"{dialect.block}\.weight", tensor) for tensor in names):
            return name
    return None


def in_basicsr(tensors: Mapping[str, np.ndarray], dialect: Dialect) -> dict[str, np.ndarray]:
    """Returns the tensors under BasicSR's names; names outside the dialect stay."""
    return {_renamed(name, dialect): tensor for name, tensor in tensors.items()}


def _renamed(name: str, dialect: Dialect) -> str:
    layer, dot, leaf = name.rpartition(".")
    if match := re.fullmatch(dialect.block, layer):
        block, dense, conv = map(int, match.groups())
        shift = 1 - dialect.first
        return f"body.{block}.rdb{dense + shift}.conv{conv + shift}{dot}{leaf}"
    for pattern, written in dialect.edges.items():
        if match := re.fullmatch(pattern, layer):
            step = int(match[1]) + 1 - dialect.step if match.groups() else 0
            return f"{written.format(u=step)}{dot}{leaf}"
    return name
