"""Checksums of checkpoints: one for each array and each item of plain values.

A checksum is of an array's values, not of a file, so that a part of a checkpoint can be verified
without reading the rest. The record is in the checkpoint's metadata, with a checksum of itself.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from numpy.typing import ArrayLike

from esrgan_jax.bucket import reached
from esrgan_jax.errors import InputError, listed

METADATA = "_CHECKPOINT_METADATA"  # in every finished checkpoint of Orbax
KEY = "checksums"  # in what Orbax calls custom metadata


class DamagedError(InputError):
    """A checkpoint differs from what was saved: a file is missing or cut, or bytes changed."""

    def __init__(self, step: epath.Path, reason: str):
        super().__init__(
            f"{step}: is damaged ({reason}); use another checkpoint, or move this one away to "
            "use the one before it"
        )
        self.step, self.reason = step, reason


def record(arrays: object, items: Mapping[str, object], saved_by: object = None) -> dict[str, Any]:
    """Returns the checksums that a checkpoint stores.

    Args:
        arrays: A tree of arrays.
        items: Plain values, by name.
        saved_by: Plain values that say what computed the arrays; stored, too, unless None.
    """
    sums: dict[str, Any] = {
        "arrays": {name: _array(leaf) for name, leaf in _named(arrays)},
        "items": {name: checksum(values) for name, values in items.items()},
    }
    if saved_by is not None:
        sums["saved_by"] = saved_by
    return {KEY: sums | {"sha256": checksum(sums)}}


def read(step: epath.Path) -> dict[str, Any] | None:
    """Returns {"arrays", "items", …} as recorded; None for old checkpoints without checksums.

    Raises:
        DamagedError: The record is damaged.
    """
    try:
        with reached(step):
            text = (step / METADATA).read_text()
        sums = json.loads(text)["custom_metadata"].get(KEY)
        if sums is not None and sums.pop("sha256") != checksum(sums):
            raise ValueError("its checksum differs")
        return sums
    except FileNotFoundError:
        raise DamagedError(step, f"it has no {METADATA}") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise DamagedError(step, f"its {METADATA} cannot be read") from None


def verify_item(
    step: epath.Path, sums: Mapping[str, Any] | None, name: str, values: object
) -> None:
    """Raises DamagedError if plain values differ from those that were saved."""
    if sums is not None and sums["items"].get(name) != checksum(values):
        raise DamagedError(step, f"the checksum of its {name} differs")


def verify_arrays(step: epath.Path, sums: Mapping[str, Any] | None, arrays: object) -> None:
    """Raises DamagedError that names the arrays which differ from those that were saved."""
    if sums is None:
        return
    saved = sums["arrays"]
    wrong = [name for name, leaf in _named(arrays) if saved.get(name) != _array(leaf)]
    if wrong:
        raise DamagedError(step, f"the checksum of {listed(wrong, 2)} differs")


def other_shapes(sums: Mapping[str, Any], arrays: object) -> list[str]:
    """Lists how the shapes and dtypes of a tree differ from the recorded ones."""
    saved = {name: _shape(*kind[:2]) for name, kind in sums["arrays"].items()}
    current = {name: _shape(leaf.shape, str(leaf.dtype)) for name, leaf in _named(arrays)}
    return [
        f"{name} {saved.get(name, 'absent')} -> {current.get(name, 'absent')}"
        for name in sorted(saved.keys() | current.keys())
        if saved.get(name) != current.get(name)
    ]


def checksum(values: object) -> str:
    """Returns the SHA-256 of plain values as JSON, in hexadecimal."""
    values = json.loads(json.dumps(values))  # makes keys strings, before they are sorted
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _array(leaf: ArrayLike) -> list[object]:
    array = np.asarray(leaf)
    return [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]


def _named(arrays: object) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        yield jax.tree_util.keystr(path, simple=True, separator="/"), leaf


def _shape(shape: Iterable[int], dtype: str) -> str:
    return f"{dtype}{list(shape)}"
