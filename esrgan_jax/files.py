"""Files that are there whole or not at all, and what identifies them."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esrgan_jax.errors import InputError, RunError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A name beside `path` to write to: renamed to `path` at the end, removed on failure."""
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise InputError(f"{path}: cannot be written: {reason}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise RunError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def refuse_same(source: Path, target: Path) -> None:
    """InputError where a command would overwrite what it reads."""
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"{target}: would overwrite what is read; give another name")


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
