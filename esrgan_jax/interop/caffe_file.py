"""Convolutions in Caffe's .caffemodel files, read without Caffe and without protobuf."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from esrgan_jax.errors import InputError, listed
from esrgan_jax.interop.mapped_file import map_file

# Fields of the messages in Caffe's caffe.proto. A file has layers of one form or the other.
NET_LAYERS_V1, NET_LAYER = 2, 100
NAME_AND_BLOBS = {NET_LAYERS_V1: (4, 6), NET_LAYER: (1, 7)}
LEGACY_SHAPE = (1, 2, 3, 4)  # num, channels, height, width; absent is 0
DATA, SHAPE, DOUBLE_DATA, RAW_DATA = 5, 7, 8, 12  # the last is NVCaffe's
SHAPE_DIM = 1
ELEMENTS = {DATA: "<f4", DOUBLE_DATA: "<f8"}

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
MAX_FIELDS = 4096  # of one message; the largest networks have some thousand layers
MAX_DIMS = 8
LEAVES = ("weight", "bias")


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads layers `convN_M` of a .caffemodel as `convN_M.weight` (OIHW) and `convN_M.bias` (O,).

    Other layers are skipped. Both formats are read: V1LayerParameter, as in the original VGG
    files, and LayerParameter. The arrays (float32 or float64) are read-only views of the mapped
    file, so they are read from the disk when they are used.

    Raises:
        InputError: No such file, not a Caffe model, a damaged file, or no such layers.
    """
    path = Path(path)
    tensors: dict[str, np.ndarray] = {}
    others: list[str] = []
    try:
        for layer, blobs in _layers(memoryview(map_file(path)), others):
            if f"{layer}.{LEAVES[0]}" in tensors:
                raise ValueError(f"the layer {layer} is there twice")
            for kind, blob in zip(LEAVES, blobs, strict=False):
                tensors[f"{layer}.{kind}"] = _array(blob, layer, kind)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a Caffe model: {error}. "
            "Download it again, or save it by Caffe"
        ) from error
    if not tensors:
        raise InputError(
            f"{path}: has no layers conv1_1, conv1_2, … with weights, but "
            f"{listed(others) or 'none at all'}. Give a VGG16 or VGG19 as .caffemodel"
        )
    return tensors


def _layers(content: memoryview, others: list[str]) -> Iterator[tuple[str, list[memoryview]]]:
    """Yields (name, blobs) of the convolutions and appends other layers' names to `others`."""
    for form, layer in _fields(content):
        if form not in NAME_AND_BLOBS:
            continue
        name, blobs = "", []
        name_field, blobs_field = NAME_AND_BLOBS[form]
        for field, value in _fields(_bytes(layer, "a layer")):
            if field == name_field:
                name = str(_bytes(value, "a layer's name")[:1000], "utf-8", "replace")
            # One extra blob is enough to detect that there are too many.
            elif field == blobs_field and len(blobs) <= len(LEAVES):
                blobs.append(_bytes(value, "a blob"))
        if not re.fullmatch(r"conv[0-9]_[0-9]", name):
            others.append(name)
        elif len(blobs) > len(LEAVES):
            raise ValueError(f"the layer {name} has more than weights and a bias")
        elif blobs:
            yield name, blobs


def _array(blob: memoryview, layer: str, kind: str) -> np.ndarray:
    legacy = dict.fromkeys(LEGACY_SHAPE, 0)
    shape: list[int] = []
    pieces: dict[int, list[memoryview]] = {}
    raw = False
    for field, value in _fields(blob):
        if field in legacy and isinstance(value, int):
            legacy[field] = value
        elif field == SHAPE:
            shape += _dims(_bytes(value, "a shape"))
        elif field in ELEMENTS:
            pieces.setdefault(field, []).append(_bytes(value, "a blob's data"))
        raw = raw or field == RAW_DATA
    where = f"{layer}'s {kind}"
    if len(pieces) != 1:
        raise ValueError(f"{where} {'is in the raw form of NVCaffe' if raw else 'has no data'}")
    ((field, parts),) = pieces.items()
    # The format lets a list come in several parts; Caffe writes one, which stays a view.
    numbers = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(numbers) % np.dtype(ELEMENTS[field]).itemsize:
        raise ValueError(f"{where} ends in the middle of a number")
    array = np.frombuffer(numbers, ELEMENTS[field])
    dims = shape or list(legacy.values())
    if math.prod(dims) != array.size or len(dims) > MAX_DIMS:
        raise ValueError(f"{where} has {array.size} numbers for the shape {dims[:MAX_DIMS]}")
    # Before it had shapes, Caffe wrote a bias as 1 x 1 x 1 x O.
    vector = kind == "bias" and all(dim == 1 for dim in dims[:-1])
    return array if vector else array.reshape(dims)


def _dims(message: memoryview) -> list[int]:
    dims: list[int] = []
    for field, value in _fields(message):
        if field != SHAPE_DIM:
            continue
        if isinstance(value, int):
            dims.append(value)
        else:
            at = 0
            while at < len(value) and len(dims) <= MAX_DIMS:
                dim, at = _varint(value, at)
                dims.append(dim)
    return dims


def _bytes(value: int | memoryview, what: str) -> memoryview:
    if isinstance(value, int):
        raise ValueError(f"{what} is a number")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields (number, value) of a message's fields: varints as int, other values as views."""
    at, count = 0, 0
    while at < len(message):
        count += 1
        if count > MAX_FIELDS:
            raise ValueError(f"a message has over {MAX_FIELDS} fields")
        start = at
        tag, at = _varint(message, at)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            value, at = _varint(message, at)
        elif wire_type in FIXED_SIZES:
            step = at - start + FIXED_SIZES[wire_type]
            rows = _rows(message[start:], step, at - start)
            value, at = memoryview(rows.tobytes()), start + step * max(1, len(rows))
        elif wire_type == BYTES:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError(f"it has a field of the unknown wire type {wire_type}")
        if field == 0 or at > len(message):
            raise ValueError("it ends too early" if field else "it is another kind of file")
        yield field, value


def _rows(message: memoryview, step: int, tag_size: int) -> np.ndarray:
    """Returns the leading fixed-size numbers of a message that share one tag.

    A writer that does not pack numbers into one field writes millions of such fields.
    """
    rows = np.frombuffer(message, np.uint8, len(message) // step * step).reshape(-1, step)
    count = min(1, len(rows))
    while count < len(rows):
        # The range doubles each time, so the search costs no more than the numbers found.
        more = rows[count : 2 * count, :tag_size] == rows[0, :tag_size]
        same = more.all(axis=1)
        count += len(same) if same.all() else int(same.argmin())
        if not same.all():
            break
    return rows[:count, tag_size:]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns the number at a position and the position after it."""
    number = 0
    for index, byte in enumerate(message[at : at + 10]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, at + index + 1
    raise ValueError("it ends too early" if at + 10 > len(message) else "it has an endless number")
