"""Reads and writes NumPy's .npz files without holding them in memory."""

import mmap
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from esrgan_jax.errors import InputError
from esrgan_jax.interop.mapped_file import Stream, find_member, open_zip

SUFFIX = ".npy"  # of the members
MAX_INFLATION = 100  # of a compressed file; weights shrink by a tenth, 8-bit ones by 3/4
NUMBER_KINDS = "fiub"  # NumPy's own kinds; bfloat16 would be read as bytes


def read(path: Path, data: mmap.mmap) -> dict[str, np.ndarray]:
    """Returns the arrays of a mapped .npz file by name, as read-only views.

    A compressed file is unpacked into a temporary one on the disk, so the views are of that.

    Raises:
        ValueError, OSError, zipfile.BadZipFile, zlib.error, …: It is malformed, damaged, holds
            anything but numbers, or would unpack to over 100 times its size.
    """
    members = [m for m in open_zip(data).infolist() if m.filename.endswith(SUFFIX)]
    packed = [m for m in members if m.compress_type != zipfile.ZIP_STORED]
    if sum(m.file_size for m in packed) > MAX_INFLATION * len(data):
        raise ValueError(f"it would unpack to over {MAX_INFLATION} times its size")
    unpacked = _unpack(path, packed) if packed else {}
    arrays = {}
    for member in members:
        name = member.filename.removesuffix(SUFFIX)
        if member.filename in unpacked:
            arrays[name] = _view(name, *unpacked[member.filename])
            continue
        start, size = find_member(data, member)
        if zlib.crc32(memoryview(data)[start : start + size]) != member.CRC:
            raise ValueError(f"{name:.80} is damaged: its checksum differs")
        arrays[name] = _view(name, data, start, start + size)
    return arrays


def _unpack(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, tuple[mmap.mmap, int, int]]:
    """Unpacks members into a temporary map, freed with its last view; returns them by name."""
    ends = [0]
    with tempfile.TemporaryFile() as spill, zipfile.ZipFile(path) as archive:
        for member in members:
            with archive.open(member) as stream:  # which checks the size and the checksum
                shutil.copyfileobj(stream, spill)
            ends.append(spill.tell())
        spill.flush()
        data = mmap.mmap(spill.fileno(), 0, access=mmap.ACCESS_READ)
    spans = zip(members, pairwise(ends), strict=True)
    return {member.filename: (data, *span) for member, span in spans}


def _view(name: str, data: mmap.mmap, start: int, end: int) -> np.ndarray:
    """Returns the array between two positions. NumPy's reader would allocate any claimed size."""
    stream = Stream(data, start, end)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.kind not in NUMBER_KINDS:
        raise ValueError(f"{name:.80} holds {dtype}, not numbers")
    flat = np.frombuffer(memoryview(data)[stream.position : end], dtype)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a new uncompressed .npz file. InputError for elements that NumPy does not have."""
    for name, array in arrays.items():
        if array.dtype.kind not in NUMBER_KINDS:
            raise InputError(f"{name}: .npz cannot hold {array.dtype}: write .safetensors")
    # np.savez would take a tensor named "file" as its argument.
    with path.open("xb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(name + SUFFIX, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
