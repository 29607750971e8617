"""Named tensors in and out of weight files: .pth, .pt, .ckpt, .safetensors and .npz."""

import mmap
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from esrgan_jax.errors import InputError, RunError, listed
from esrgan_jax.files import replacing
from esrgan_jax.interop import npz_file, torch_file
from esrgan_jax.interop.mapped_file import Stream, map_file, open_zip

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
SUFFIXES = (*TORCH_SUFFIXES, ".safetensors", ".npz")

# Under which keys trainers keep the generator, averaged weights first.
WRAPPERS = (
    *("params_ema", "params-ema", "generator_ema", "net_g_ema", "g_ema", "ema"),
    *("params", "params_g", "generator", "net_g", "netG"),
    *("model_state_dict", "state_dict", "model", "net"),
)
# Put before the names of one network among several in a flat mapping, averaged weights first.
NETWORK_PREFIXES = (
    *("generator_ema.", "net_g_ema.", "g_ema.", "ema_model.", "params_ema."),
    *("generator.", "net_g.", "netG."),
)
# Put before every name by what was wrapped around the network: DataParallel, torch.compile.
SHARED_PREFIXES = ("module.", "_orig_mod.")
SAFETENSORS_DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype(np.bool_),
}
# All that zipfile, zlib, NumPy and safetensors raise on damaged files.
UNREADABLE = (
    *(ValueError, TypeError, LookupError, OSError, EOFError, RuntimeError, MemoryError),
    *(struct.error, zipfile.BadZipFile, zlib.error, tokenize.TokenError, SafetensorError),
)
FLOATS = ("float32", "float16", "bfloat16", "float64")
COUNTERS = ("n_averaged", "step_counter")
MAX_WRAPPINGS = 16


def read_tensors(path: str | os.PathLike, key: str = "") -> dict[str, np.ndarray]:
    """The tensors of one network in a weight file, by name, in the file's order.

    Args:
        path: The file.
        key: Which of several networks in it: a key of its mappings (`params`, `state_dict/params`)
            or what names begin with before a dot. Left out, averaged (EMA) weights are preferred.

    The content decides how the file is read. Mappings around the tensors are unwrapped and shared
    prefixes of the names stripped.
    Arrays may be read-only views of the file.

    Raises:
        InputError: No such file, a suffix that is none of SUFFIXES, a damaged file, no such key,
            or no tensors.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}, not weights")
    _check_suffix(path)
    tensors = _network(_unwrap(_under(_read(path), key, path)))
    if not tensors:
        raise InputError(f"{path}: holds no tensors under names")
    return tensors


def write_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes named tensors in the format that the suffix says (.pth raw: not wrapped in a key).

    `metadata` goes into the header of a .safetensors file; the other formats have no place for it.
    The file takes its place when it is complete.

    Raises:
        InputError: An unknown suffix, no such folder, or an element type the format cannot hold.
        RunError: The disk does not take the file.
    """
    path = Path(path)
    _check_suffix(path)
    # safetensors writes an array's memory as it lies.
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    if path.suffix.lower() in TORCH_SUFFIXES:
        torch_file.write(path, arrays)
        return
    with replacing(path) as partial:
        if path.suffix.lower() == ".npz":
            npz_file.write(partial, arrays)
        else:
            partial.touch()
            mode = partial.stat().st_mode  # the library's file would be its owner's alone
            try:
                save_file(arrays, partial, dict(metadata or {}))
                partial.chmod(mode)
            except SafetensorError as error:
                raise RunError(f"{path}: could not be written: {error}") from error


def write_network(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray], wrap: str = ""
) -> None:
    """`write_tensors` as readers of a network expect it: the tensors of a .pth under a key.

    `wrap` is that key, or "none" for none; left out, "params_ema", which Real-ESRGAN wants and all
    else accepts. InputError for a key in another kind of file.
    """
    path = Path(path)
    if path.suffix.lower() in TORCH_SUFFIXES and wrap != "none":
        torch_file.write(path, {wrap or "params_ema": tensors})
    elif wrap in ("", "none"):
        write_tensors(path, tensors)
    else:
        raise InputError(f"{path}: only .pth files have a key above the tensors")


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """What the header of a .safetensors file says beside its tensors; {} for any other file."""
    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def check_tensors(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], claim: str
) -> None:
    """Raises an InputError that lists all differences unless `tensors` are the expected ones.

    They are if names and shapes agree and the elements are floating-point numbers. `claim` begins
    the message: which file, and what it was hoped to be.
    """
    present = {name: tensors[name] for name in expected if name in tensors}
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "left over": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} {tensor.shape} for {expected[name]}"
            for name, tensor in present.items()
            if tensor.shape != expected[name]
        ],
        "not floating-point": [
            f"{name} {tensor.dtype}"
            for name, tensor in present.items()
            if tensor.dtype.name not in FLOATS
        ],
    }
    lists = [f"{problem}: {listed(names)}" for problem, names in problems.items() if names]
    if lists:
        raise InputError(f"{claim}: {'; '.join(lists)}")


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path}: {path.suffix or 'a name without suffix'} is no weight file; "
            f"accepted are {', '.join(SUFFIXES)}"
        )


def _read(path: Path) -> Any:
    try:
        data = map_file(path)
        if data[:4] == b"PK\x03\x04":
            if any(name.endswith(npz_file.SUFFIX) for name in open_zip(data).namelist()):
                return npz_file.read(path, data)
        elif data[8:9] == b"{":
            return _read_safetensors(path, data)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read: {error!s:.300}. Download or write it again"
        ) from error
    return torch_file.read(path)


def _read_safetensors(path: Path, data: mmap.mmap) -> dict[str, np.ndarray]:
    """Views of the file. The library checks the header: tensors lie end to end in it."""
    position = 8 + int.from_bytes(data[:8], "little")
    Stream(data, 8).read(position - 8)  # whose bounds also suit a header of JSON
    tensors = {}
    with safe_open(path, framework="np") as file:
        for name in file.offset_keys():
            part = file.get_slice(name)
            if part.get_dtype() not in SAFETENSORS_DTYPES:
                raise ValueError(f"{name:.80} has elements of {part.get_dtype()}")
            dtype = SAFETENSORS_DTYPES[part.get_dtype()]
            tensors[name] = np.ndarray(part.get_shape(), dtype, data, position)
            position += tensors[name].nbytes
    return tensors


def _under(state: Any, key: str, path: Path) -> Any:
    """What a file has under a key, or under names that begin with it."""
    for part in filter(None, key.split("/")):
        names = [name for name in state if isinstance(name, str)] if isinstance(state, dict) else []
        flat = {n: state[n] for n in names if n.startswith(f"{part}.")}
        if part not in names and not flat:
            raise InputError(f"{path}: has no key {part}, but {listed(names)}")
        if part in names:
            state = state[part]
        else:
            state = {name.removeprefix(f"{part}."): value for name, value in flat.items()}
    return state


def _unwrap(state: Any) -> dict[str, np.ndarray]:
    """The mapping of names to tensors inside the mappings that a trainer put around it."""
    for _ in range(MAX_WRAPPINGS):
        if not isinstance(state, dict):
            break
        inside = {
            key: value
            for key, value in state.items()
            if isinstance(value, dict)
            and any(isinstance(item, dict | np.ndarray) for item in value.values())
        }
        known = next((inside[key] for key in WRAPPERS if key in inside), None)
        if known is not None:
            state = known
        elif len(inside) == 1 and not any(isinstance(v, np.ndarray) for v in state.values()):
            (state,) = inside.values()
        else:
            return {
                key: value
                for key, value in state.items()
                if isinstance(key, str)
                and isinstance(value, np.ndarray)
                and key.rpartition(".")[2] not in COUNTERS
            }
    return {}


def _network(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The generator's tensors alone where the names tell networks apart, prefixes stripped."""
    for _ in range(MAX_WRAPPINGS):
        prefix = next((p for p in NETWORK_PREFIXES if any(n.startswith(p) for n in tensors)), "")
        if not prefix:
            shared = (p for p in SHARED_PREFIXES if all(n.startswith(p) for n in tensors))
            prefix = next(shared, "")
        # "model.0" is a name of the oldest layout; "model.conv_first" has a wrapper's prefix.
        if not prefix and all(n.startswith("model.") and not n[6:7].isdigit() for n in tensors):
            prefix = "model."
        if not prefix:
            break
        tensors = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
    return tensors
