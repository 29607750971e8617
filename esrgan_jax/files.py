"""Writes files completely or not at all, and identifies them by checksums."""

import errno
import hashlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from esrgan_jax.errors import InputError, RunError, did_you_mean

CACHE_VARIABLE = "ESRGAN_JAX_CACHE"
# As the system calls say it, and libraries that pass their text on alone.
_FULL = {number: os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)}
_FILES = 2**20  # with as many bytes free, it is not bytes that lack where no file can be made


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """A name beside `path` to write to: renamed to `path` at the end, removed on failure.

    What is raised inside comes out as it is, as it may be about another file; put `writing` around
    what writes. `write_bytes` and `write_text` do both.

    Raises:
        InputError: There is no such folder, or the name is a folder's or too long.
        RunError: The file cannot be put on the disk or renamed.
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
            with partial.open("rb+") as file:  # else a power failure may leave an empty file
                os.fsync(file.fileno())
            partial.replace(path)
    finally:
        with suppress(OSError):  # of a file system that is read-only by now
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Generator[None]:
    """An OSError of what writes `path`, or its stand-in, becomes the RunError that names `path`."""
    try:
        yield
    except OSError as error:
        raise write_error(Path(path), error) from error


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a small file, whole or not at all. Raises as `replacing` does."""
    with replacing(path) as partial, writing(path):
        partial.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """The same in UTF-8; names of files in the text may be any bytes, and become escapes."""
    write_bytes(path, content.encode(errors="backslashreplace"))


def too_long(path: Path) -> str | None:
    """What is too long of a path for the file system that it is or shall be on; None if nothing."""
    path = path.absolute()
    try:
        folder = next(place for place in path.parents if os.path.isdir(place))
        most, longest = (os.pathconf(folder, name) for name in ("PC_NAME_MAX", "PC_PATH_MAX"))
    except (AttributeError, OSError, ValueError):  # a system that does not say
        most, longest = 255, 4096
    for part in path.parts[1:]:
        if (size := len(os.fsencode(part))) > most:
            return f"the name has {size} bytes, and the file system takes {most}"
    if (size := len(os.fsencode(path))) >= longest:
        return f"the path has {size} bytes, and the system takes {longest - 1}"
    return None


def near(path: Path) -> str:
    """The end of a sentence on a path that is not there: the name beside it that was meant."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return ""
    meant = did_you_mean(path.name, names, 0.75)
    return f".{meant.replace('mean ', f'mean {path.parent}/', 1)}" if meant else ""


def no_space(path: str | os.PathLike[str], error: BaseException) -> str:
    """Where `error` says that the disk or the quota is full: so, with the folder and what is free.

    Args:
        path: What was written, or its folder; it need not exist.
        error: Of the system or of any library, such as libvips, FFmpeg or TensorStore.

    Returns:
        For the end of a sentence; "" for every other error.
    """
    number, text = getattr(error, "errno", None), str(error)
    full = next((n for n, says in _FULL.items() if n == number or says in text), None)
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
    """A number of bytes for a message: "1.5 GiB"."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.1f} KiB"


def write_error(path: str | os.PathLike[str], error: BaseException, said: str = "") -> RunError:
    """The sentence for what could not be written, whatever the reason.

    Args:
        path: A file or a folder; a str is the name of a stream, whose disk is not known.
        error: Of the system or of a library.
        said: The reason in words, where those of `error` are not the best.
    """
    full = no_space(path, error) if isinstance(path, os.PathLike) else ""
    reason = full or said or getattr(error, "strerror", None) or str(error)
    return RunError(f"{path}: could not be written: {reason}")


def refuse_same(source: Path, target: Path) -> None:
    """InputError where a command would overwrite what it reads."""
    if os.path.exists(target) and os.path.exists(source) and target.samefile(source):
        raise InputError(f"{target}: would overwrite what is read; give another name")


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where weights and compiled programs are kept: ESRGAN_JAX_CACHE, else the user's cache."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("esrgan_jax"))
