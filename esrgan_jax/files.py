"""Writes files completely or not at all, and identifies them by checksums."""

import errno
import hashlib
import math
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from esrgan_jax.errors import InputError, RunError, did_you_mean

CACHE_VARIABLE = "ESRGAN_JAX_CACHE"
# The system's messages, since some libraries pass on only the text.
_FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)}
_FILES = 2**20  # with more bytes free, a file that cannot be created lacks an inode


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """Yields a temporary path next to `path`; renames it to `path` at the end, removes it on error.

    Exceptions of the block are passed on unchanged, since they may be about another file; put
    `writing` around what writes. `write_bytes` and `write_text` do both.

    Raises:
        InputError: The folder does not exist, or `path` is a folder or too long.
        RunError: The file cannot be synced or renamed.
    """
    path = Path(path)
    if reason := too_long(path):
        raise InputError(f"{path}: cannot be written: {reason}")
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InputError(f"{path}: cannot be written: {reason}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    if too_long(partial):
        short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        partial = path.with_name(f".{short}.{os.getpid()}.part")
    try:
        yield partial
        with writing(path):
            with partial.open("rb+") as file:  # otherwise a power failure may leave an empty file
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with suppress(OSError):  # the file system may be read-only now
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Generator[None]:
    """Turns an OSError of the block, which writes `path`, into a RunError that names `path`."""
    try:
        yield
    except OSError as error:
        raise write_error(Path(path), error) from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a small file completely or not at all. Raises what `replacing` raises."""
    with replacing(path) as partial, writing(path):
        partial.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Writes a small text file in UTF-8; bytes of file names that are not UTF-8 are escaped."""
    write_bytes(path, content.encode(errors="backslashreplace"))


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, unless it is there; raises InputError if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"{folder}: cannot be a folder: {error.filename} is a file") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be made: {error.strerror}") from None


def too_long(path: Path) -> str | None:
    """Returns what is too long in a path for its file system, or None."""
    path = path.absolute()
    try:
        folder = next(place for place in (path, *path.parents) if os.path.isdir(place))
        most, longest = (os.pathconf(folder, name) for name in ("PC_NAME_MAX", "PC_PATH_MAX"))
    except (AttributeError, OSError, ValueError):  # unknown on this system
        most, longest = 255, 4096
    for part in path.parts[1:]:
        if (size := len(os.fsencode(part))) > most:
            return f"the name has {size} bytes, and the file system allows {most}"
    if (size := len(os.fsencode(path))) >= longest:
        return f"the path has {size} bytes, and the system allows {longest - 1}"
    return None


def near(path: Path) -> str:
    """Returns ". Did you mean …?" with a similar name in the folder of a missing path, or ""."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""
    advice = did_you_mean(path.name, names, 0.75)
    return f".{advice.replace('mean ', f'mean {path.parent}/', 1)}" if advice else ""


def no_space(path: str | os.PathLike[str], error: BaseException) -> str:
    """Returns the end of a message on a full disk or quota, or "" for every other error.

    Args:
        path: The file that was written, or its folder; it need not exist.
        error: From the system or any library, such as libvips, FFmpeg or TensorStore.
    """
    number, text = getattr(error, "errno", None), str(error)
    full = next((n for n, words in _FULL.items() if n == number or words in text), None)
    if full is None:
        return no_space(path, error.__cause__) if error.__cause__ else ""
    path = Path(path).absolute()
    folder = next(place for place in (path, *path.parents) if place.is_dir())
    if full == errno.EDQUOT:
        return f"your quota of the disk of {folder} is used up; make room, then run it again"
    free = shutil.disk_usage(folder).free
    if free > _FILES and os.statvfs(folder).f_favail == 0:
        return f"no more files fit on the disk of {folder}; remove some, then run it again"
    left = bytes_text(free)
    return f"no space left on the disk, {left} are free in {folder}; make room, then run it again"


def bytes_text(count: float) -> str:
    """Returns a number of bytes for a message: "1.5 GiB"."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"


def write_error(path: str | os.PathLike[str], error: BaseException, words: str = "") -> RunError:
    """Returns the error for a file that could not be written.

    Args:
        path: A file or folder; a str is the name of a stream, and its disk is not examined.
        error: From the system or a library.
        words: The reason, if the text of `error` is not clear.
    """
    full = no_space(path, error) if isinstance(path, os.PathLike) else ""
    reason = full or words or getattr(error, "strerror", None) or str(error)
    return RunError(f"{path}: could not be written: {reason}")


def finite_only(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row for JSON, which has neither NaN nor infinity: they become None."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def refuse_same(source: Path, target: Path) -> None:
    """Raises InputError if a command would overwrite its own input."""
    if os.path.exists(target) and os.path.exists(source) and target.samefile(source):
        raise InputError(f"{target}: would overwrite the input; give another name")


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Returns the folder of weights and compiled programs: ESRGAN_JAX_CACHE or the user's cache."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("esrgan_jax"))
