"""PyTorch's weight files (.pth, .pt, .ckpt) read and written without torch.

A torch file is a pickle that describes tensors, and the raw bytes of their storages: members
of a zip archive since torch 1.6, one after the other in a plain file before.
"""

import math
import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.errors import InputError
from esrgan_jax.files import replacing, writing
from esrgan_jax.interop import torch_pickle
from esrgan_jax.interop.mapped_file import MALFORMED, Stream, find_member, map_file, open_zip
from esrgan_jax.interop.torch_pickle import Storage

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_AXES = 32
ALIGNMENT = 64  # of the storages in a zip file, as torch has it


def read(path: str | os.PathLike[str]) -> Any:
    """Reads the object in a torch file, with tensors as NumPy arrays.

    The arrays are read-only views of the file mapped into memory, so a tensor is read from the
    disk when it is first used; those that share a storage, or repeat it by strides of 0, may have
    more elements together than the file. Mappings of all kinds come as `dict`. Nothing in the file
    is ever executed, and nothing is allocated because the file claims to need it.

    Raises:
        InputError: The file is missing, malformed or truncated, claims more than it holds, or its
            pickle asks for anything but tensors, mappings, lists, tuples and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    try:
        data = map_file(path)
        if data[:4] == b"PK\x03\x04":
            return _read_zip(data)
        if data[:1] == b"\x80":
            return _read_legacy(data)
        raise ValueError(_other_kind(data))
    except MALFORMED as error:
        raise InputError(
            f"{path}: cannot be read as a torch file: {error!s:.300}. Download it again, "
            "or save its state_dict alone with torch.save"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _other_kind(data: mmap.mmap) -> str:
    """Describes a file that is not PyTorch's, such as a failed download."""
    if data[:64].lstrip()[:1] == b"<":
        return "it is a web page, not a weight file"
    if data[:24] == b"version https://git-lfs.":
        return "it is a pointer of Git LFS: `git lfs pull` downloads the file itself"
    return "it does not begin like a torch file"


def _read_zip(data: mmap.mmap) -> Any:
    members = {member.filename: member for member in open_zip(data).infolist()}
    folders = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise ValueError("the zip archive holds no data.pkl of torch")

    def span(name: str) -> tuple[int, int]:
        if (member := members.get(folders[0] + name)) is None:
            raise ValueError(f"the zip archive lacks {name:.40}")
        return find_member(data, member)

    def stream(name: str) -> Stream:
        start, size = span(name)
        return Stream(data, start, start + size)

    if folders[0] + "byteorder" in members and stream("byteorder").read() != b"little":
        raise ValueError("it was written on a big-endian machine")
    make_tensor = _viewer(data, lambda key: span(f"data/{key}"))
    return torch_pickle.load(stream("data.pkl"), make_tensor)


def _read_legacy(data: mmap.mmap) -> Any:
    stream = Stream(data)
    magic, _version, system = (torch_pickle.load(stream, _no_tensor) for _ in range(3))
    if magic != LEGACY_MAGIC:
        raise ValueError("it is a pickle, but not torch's")
    if not system["little_endian"]:
        raise ValueError("it was written on a big-endian machine")

    # The sizes of the storages follow from their types, which only the pickle before them has. So
    # it is read once for the types and, when the positions are known, again for the tensors.
    dtypes: dict[str, np.dtype] = {}

    def note(storage: Storage, *_: Any) -> None:
        dtypes.setdefault(storage.key, storage.dtype)

    pickle_start = stream.tell()
    torch_pickle.load(stream, note)
    keys = torch_pickle.load(stream, _no_tensor)
    spans: dict[str, tuple[int, int]] = {}
    position = stream.tell()
    for key in keys:
        if not isinstance(key, str) or key not in dtypes:
            raise ValueError("it holds a storage that no tensor uses")
        (numel,) = struct.unpack("<q", data[position : position + 8])
        start, size = position + 8, numel * dtypes[key].itemsize
        if numel < 0 or start + size > len(data):
            raise ValueError(f"storage {key:.40} has {numel} elements, beyond the file's end")
        spans[key] = start, size
        position = start + size
    stream = Stream(data, pickle_start)
    return torch_pickle.load(stream, _viewer(data, spans.__getitem__))


def _no_tensor(*_: Any) -> None:
    raise ValueError("it has a tensor where torch has none")


def _viewer(data: mmap.mmap, span: Callable[[str], tuple[int, int]]) -> Callable[..., np.ndarray]:
    """Returns a function that makes tensors as views of the file, after checking their bounds."""

    def view(
        storage: Storage, offset: Any, shape: tuple[int, ...], strides: tuple[int, ...]
    ) -> np.ndarray:
        start, size = span(storage.key)
        item, key = storage.dtype.itemsize, f"{storage.key:.40}"
        numbers = (storage.start, storage.numel, offset, *shape, *strides)
        if len(shape) != len(strides) or len(shape) > MAX_AXES:
            raise ValueError(f"a tensor of storage {key} has impossible axes")
        if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
            raise ValueError(f"a tensor of storage {key} has negative or impossible sizes")
        if (storage.start + storage.numel) * item > size:
            raise ValueError(f"storage {key} has {size} bytes, fewer than its tensor claims")
        count = math.prod(shape)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        if count and last >= storage.numel:
            raise ValueError(f"a tensor of shape {shape} reaches beyond its storage {key}")
        if not count:
            return np.empty(shape, storage.dtype)
        place = start + (storage.start + offset) * item
        return np.ndarray(shape, storage.dtype, data, place, [item * s for s in strides])

    return view


def write(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Writes a state_dict as torch.save does since 1.6: zip, pickle protocol 2.

    Args:
        path: Where to; replaced in one step when the file is complete.
        state: Arrays by name, or mappings of them (`{"params_ema": tensors}`), with plain values
            (str, int, float, bool, None). Mappings are written as OrderedDict.

    Raises:
        InputError: A value or an element type that such a file cannot hold, or no folder there.
        RunError: The disk does not take the file.
    """
    storages: list[np.ndarray] = []
    description = torch_pickle.dump(state, storages)
    members: dict[str, bytes | memoryview] = {"data.pkl": description, "byteorder": b"little"}
    for key, array in enumerate(storages):
        members[f"data/{key}"] = array.reshape(-1).view(np.uint8).data
    members["version"] = b"3\n"
    with (
        replacing(path) as partial,
        writing(path),
        partial.open("xb") as file,
        zipfile.ZipFile(file, "w") as archive,
    ):
        for name, content in members.items():
            info = zipfile.ZipInfo(f"archive/{name}")
            padding = -(file.tell() + 30 + len(info.filename) + 4) % ALIGNMENT
            info.extra = struct.pack("<HH", 0x4246, padding) + bytes(padding)
            archive.writestr(info, content)
