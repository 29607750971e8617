"""Reads and writes safetensors files; tensors stay in the mapped file."""

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esrgan_jax.interop.mapped_file import MEBIBYTE

SAFETENSORS_DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype(np.bool_),
}
MAX_HEADER = 4 * MEBIBYTE  # bytes, and a 16th of the file: it may hold a workflow


def read(path: Path, data: mmap.mmap) -> dict[str, np.ndarray]:
    """Returns the tensors of a mapped .safetensors file by name, in its order, as read-only views.

    Raises:
        ValueError, SafetensorError: It is malformed, or has elements that NumPy does not.
    """
    position = 8 + int.from_bytes(data[:8], "little")
    if position > MAX_HEADER + len(data) // 16:
        raise ValueError(f"its header of {position - 8:,} bytes is far larger than tensors need")
    tensors = {}
    # The library checks the header: the tensors follow it without gaps.
    with safe_open(path, framework="np") as file:
        for name in file.offset_keys():
            part = file.get_slice(name)
            if part.get_dtype() not in SAFETENSORS_DTYPES:
                raise ValueError(f"{name:.80} has elements of {part.get_dtype()}")
            dtype = SAFETENSORS_DTYPES[part.get_dtype()]
            tensors[name] = np.ndarray(part.get_shape(), dtype, data, position)
            position += tensors[name].nbytes
    return tensors


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Returns the header's metadata; {} for any other file."""
    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def write(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays in C order to a new file. OSError if the library cannot."""
    path.touch()
    mode = path.stat().st_mode  # the library makes the file readable by its owner only
    try:
        save_file(dict(arrays), path, dict(metadata))
        path.chmod(mode)
    except SafetensorError as error:
        raise OSError(str(error)) from error
