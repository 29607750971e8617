"""Reads and writes named tensors: .pth, .pt, .ckpt, .safetensors and .npz."""

import os
import tokenize
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from esrgan_jax.errors import InputError, listed
from esrgan_jax.files import replacing, writing
from esrgan_jax.interop import npz_file, safetensors_file, torch_file
from esrgan_jax.interop.mapped_file import MALFORMED, map_file, open_zip

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
WEIGHT_SUFFIXES = (*TORCH_SUFFIXES, ".safetensors", ".npz")
# Suffixes of torch's old examples (which are not tar files) and of early Hugging Face files.
READ_ONLY = (".pth.tar", ".pt.tar", ".ckpt.tar", ".bin")

# Keys under which trainers store the generator, averaged weights first.
WRAPPERS = (
    *("params_ema", "params-ema", "generator_ema", "net_g_ema", "network_g_ema", "g_ema", "ema"),
    *("params", "params_g", "generator", "generator_state_dict", "net_g", "network_g", "netG"),
    *("model_state_dict", "state_dict", "model", "net"),
)
# Prefixes of the generator's names in a flat mapping of several networks, averaged weights first.
NETWORK_PREFIXES = (
    *("generator_ema.", "net_g_ema.", "g_ema.", "ema_model.", "params_ema."),
    *("generator.", "net_g.", "netG."),
)
# Prefixes that DataParallel and torch.compile add to every name.
SHARED_PREFIXES = ("module.", "_orig_mod.")
# Everything that zipfile, zlib, NumPy and safetensors raise on damaged files.
DAMAGE_ERRORS = (
    *(*MALFORMED, OSError, RuntimeError, MemoryError),
    *(zlib.error, tokenize.TokenError, SafetensorError),
)
MAX_SHARING = 2  # most bytes of a network's tensors together, in sizes of the file
FLOATS = ("float32", "float16", "bfloat16", "float64")
COUNTERS = ("n_averaged", "step_counter")
MAX_WRAPPINGS = 16


def read_tensors(path: str | os.PathLike[str], key: str = "") -> dict[str, np.ndarray]:
    """Returns the tensors of one network in a weight file, by name, in the file's order.

    Args:
        path: The file.
        key: The network to read if there are several: a key of the mappings (`params`,
            `state_dict/params`) or a prefix of the names, without its dot. By default averaged
            (EMA) weights are preferred.

    The format is recognised by the content. Mappings around the tensors are unwrapped, and shared
    prefixes of the names are removed. Arrays may be read-only views of the file.

    Raises:
        InputError: The file or the key does not exist, the suffix is not supported, or the file is
            damaged or contains no tensors.
    """
    path = Path(os.path.expanduser(path))
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(
            f"{path}: is {'a folder' if path.is_dir() else 'a special file'}, not weights"
        )
    _check_suffix(path, read=True)
    state, max_ratio = _read(path)
    tensors = _network(_unwrap(_under(state, key, path)))
    if not tensors:
        items = state.items() if isinstance(state, dict) else ()
        inside = [k for k, v in items if v and isinstance(v, dict) and isinstance(k, str)]
        several = f", but {listed(inside)}: choose by --key of the converters" if inside else ""
        raise InputError(f"{path}: holds no tensors under names{several}")
    # Tensors that share or repeat bytes are cheap as views, but not once they are copied.
    if sum(tensor.nbytes for tensor in tensors.values()) > max_ratio * path.stat().st_size:
        raise InputError(f"{path}: its tensors claim over {max_ratio} times the size of the file")
    return tensors


def write_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes named tensors in the format of the suffix; in .pth without a key above them.

    `metadata` is written to the header of a .safetensors file; other formats ignore it. The file
    is moved into place when it is complete.

    Raises:
        InputError: An unknown suffix, no such folder, or an element type the format cannot hold.
        RunError: The file cannot be written.
    """
    path = Path(os.path.expanduser(path))
    _check_suffix(path)
    # safetensors writes an array's memory and ignores its strides.
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    if path.suffix.lower() in TORCH_SUFFIXES:
        torch_file.write(path, arrays)
        return
    with replacing(path) as partial, writing(path):
        if path.suffix.lower() == ".npz":
            npz_file.write(partial, arrays)
        else:
            safetensors_file.write(partial, arrays, metadata or {})


def cast(tensors: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Returns the tensors in another element type; InputError if a finite value overflows."""
    result = {}
    for name, tensor in tensors.items():
        with np.errstate(over="ignore"):
            result[name] = tensor.astype(np.dtype(dtype))
        if (np.isfinite(tensor) & ~np.isfinite(result[name])).any():
            raise InputError(
                f"{name}: has values that {dtype} cannot hold; take bfloat16 or float32"
            )
    return result


def write_network(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], wrap: str = ""
) -> None:
    """Writes a network's tensors as other programs expect them: in a .pth under a key.

    `wrap` is the key, or "none" for no key. The default is "params_ema", which Real-ESRGAN needs
    and other programs accept. InputError if a key is given for another format.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix.lower() in TORCH_SUFFIXES and wrap != "none":
        torch_file.write(path, {wrap or "params_ema": tensors})
    elif wrap in ("", "none"):
        write_tensors(path, tensors)
    else:
        raise InputError(f"{path}: only .pth files have a key above the tensors")


def check_tensors(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], claim: str
) -> None:
    """Raises an InputError that lists all differences from the expected names and shapes.

    The elements must be floating-point numbers. The message begins with `claim`: the file, and
    what it was expected to be.
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


def is_read(path: Path) -> bool:
    """Returns whether a file name has a suffix of weight files that can be read."""
    return path.name.lower().endswith((*WEIGHT_SUFFIXES, *READ_ONLY))


def _check_suffix(path: Path, read: bool = False) -> None:
    if path.suffix.lower() not in WEIGHT_SUFFIXES and not (read and is_read(path)):
        raise InputError(
            f"{path}: {path.suffix or 'a name without suffix'} is not a weight file; "
            f"accepted are {', '.join(WEIGHT_SUFFIXES)}"
        )


def _read(path: Path) -> tuple[Any, int]:
    """Returns a file's content and the most bytes its tensors may have, in sizes of the file."""
    try:
        data = map_file(path)
        if data[:4] == b"PK\x03\x04":
            if any(name.endswith(npz_file.SUFFIX) for name in open_zip(data).namelist()):
                return npz_file.read(path, data), npz_file.MAX_INFLATION
        elif data[8:9] == b"{":
            return safetensors_file.read(path, data), MAX_SHARING
    except DAMAGE_ERRORS as error:
        raise InputError(
            f"{path}: cannot be read: {error!s:.300}. Download or write it again"
        ) from error
    return torch_file.read(path), MAX_SHARING


def _under(state: Any, key: str, path: Path) -> Any:
    """Returns the part of a file's content under a key, or under names with it as a prefix."""
    for part in filter(None, key.split("/")):
        state = _around(state, part)
        names = [name for name in state if isinstance(name, str)] if isinstance(state, dict) else []
        flat = {n: state[n] for n in names if n.startswith(f"{part}.")}
        if part not in names and not flat:
            raise InputError(f"{path}: has no key {part}, but {listed(names)}")
        if part in names:
            state = state[part]
        else:
            state = {name.removeprefix(f"{part}."): value for name, value in flat.items()}
    return state


def _around(state: Any, key: str) -> Any:
    """Returns the mapping that has a key or prefix, also from inside known wrappers."""
    found = state
    for _ in range(MAX_WRAPPINGS):
        if not isinstance(found, dict):
            break
        if any(isinstance(n, str) and (n == key or n.startswith(f"{key}.")) for n in found):
            return found
        found = next((found[w] for w in WRAPPERS if isinstance(found.get(w), dict)), None)
    return state


def _unwrap(state: Any) -> dict[str, np.ndarray]:
    """Returns the mapping of names to tensors without the mappings that trainers put around it."""
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
    """Returns the tensors of the generator only, if prefixes identify it, without the prefixes."""
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
