"""Checksums of checkpoints: one for each array and each item of plain values.

Arrays are summed up by value, not by file, so that a part of a checkpoint is verified by reading
that part alone. The record is kept in the checkpoint's own metadata and sums up itself.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from esrgan_jax.errors import InputError, listed

METADATA = "_CHECKPOINT_METADATA"  # in every finished checkpoint of Orbax
KEY = "checksums"  # in what Orbax calls custom metadata


class DamagedError(InputError):
    """A checkpoint is not what was saved: a file is missing or cut, or its bytes have changed."""

    def __init__(self, step: epath.Path, reason: str):
        super().__init__(
            f"{step}: is damaged ({reason}); take another checkpoint, or move this one away to "
            "take the one before it"
        )
        self.step, self.reason = step, reason


def record(arrays: Any, items: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint keeps.

    Args:
        arrays: Any tree of arrays.
        items: Plain values, by name.
    """
    sums = {
        "arrays": {name: _array(leaf) for name, leaf in _named(arrays)},
        "items": {name: checksum(values) for name, values in items.items()},
    }
    return {KEY: sums | {"sha256": checksum(sums)}}


def read(step: epath.Path) -> dict[str, Any] | None:
    """{"arrays", "items"} as recorded; None in checkpoints from before there were checksums.

    Raises:
        DamagedError: There is a record, and it cannot be trusted.
    """
    try:
        kept = json.loads((step / METADATA).read_text())["custom_metadata"]
        sums = kept.get(KEY)
        if sums is not None and sums.pop("sha256") != checksum(sums):
            raise ValueError("its checksum differs")
        return sums
    except FileNotFoundError:
        raise DamagedError(step, f"it has no {METADATA}") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise DamagedError(step, f"its {METADATA} cannot be read") from None


def verify_item(step: epath.Path, sums: Mapping[str, Any] | None, name: str, values: Any) -> None:
    """DamagedError where plain values are not those that were saved."""
    if sums is not None and sums["items"].get(name) != checksum(values):
        raise DamagedError(step, f"the checksum of its {name} differs")


def verify_arrays(step: epath.Path, sums: Mapping[str, Any] | None, arrays: Any) -> None:
    """DamagedError naming the arrays that are not those that were saved."""
    if sums is None:
        return
    saved = sums["arrays"]
    wrong = [name for name, leaf in _named(arrays) if saved.get(name) != _array(leaf)]
    if wrong:
        raise DamagedError(step, f"the checksum of {listed(wrong, 2)} differs")


def other_shapes(sums: Mapping[str, Any], arrays: Any) -> list[str]:
    """How a tree of arrays or of their shapes differs from the recorded one, array by array."""
    saved = {name: _shape(*kind[:2]) for name, kind in sums["arrays"].items()}
    wanted = {name: _shape(leaf.shape, str(leaf.dtype)) for name, leaf in _named(arrays)}
    return [
        f"{name} {saved.get(name, 'absent')} -> {wanted.get(name, 'absent')}"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name)
    ]


def checksum(values: Any) -> str:
    """The SHA-256 of plain values as JSON holds them, in hexadecimal."""
    values = json.loads(json.dumps(values))  # keys are texts from here on, also for their order
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _array(leaf: Any) -> list[Any]:
    array = np.asarray(leaf)
    return [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]


def _named(arrays: Any) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _shape(shape: Any, dtype: str) -> str:
    return f"{dtype}{list(shape)}"
