"""Workdirs and checkpoints in a bucket of Google Cloud Storage: gs://BUCKET/FOLDER.

epath reads and writes their files by the package gcsfs, and Orbax their arrays by TensorStore. An
object is written whole or not at all, and cannot be renamed or appended to.
"""

import contextlib
import importlib.util
import logging
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

from etils import epath

from esrgan_jax.errors import LONGEST_NAME, InputError, RunError

SCHEMES = ("gs://", "s3://", "az://", "hf://")  # those that epath takes for no local path
COMMITTED = "commit_success.txt"  # Orbax writes it last into a checkpoint


def is_bucket(path: str | os.PathLike[str]) -> bool:
    """Returns whether a path begins with gs://."""
    return os.fspath(path).startswith("gs://")


def opened(name: str | os.PathLike[str], flag: str = "") -> epath.Path:
    """Returns the path of a folder in a bucket, which need not exist.

    Args:
        name: gs://BUCKET/FOLDER.
        flag: "--workdir=" for messages, or "".

    Raises:
        InputError: It is of another kind, or gcsfs is missing, or the bucket refuses.
    """
    kind = os.fspath(name).partition("://")[0]
    if kind != "gs":
        instead = "folder, and copy it there afterwards" if flag else "folder with a copy of it"
        raise InputError(
            f"{flag}{name}: Orbax, which saves and reads checkpoints, has no {kind}://; give a "
            f"{instead}; or give gs://BUCKET/FOLDER"
        )
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError(f"{flag}{name}: needs gcsfs: pip install gcsfs")
    from fsspec.config import conf

    # TensorStore and other processes write, too, so what a folder contained is not remembered.
    for protocol in ("gs", "gcs"):
        conf.setdefault(protocol, {})["use_listings_cache"] = False
    # It logs every try that fails; the last failure is raised.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    path = epath.Path(name)
    if len(path.parts) < 3:
        raise InputError(f"{flag}{name}: names no bucket: give gs://BUCKET/FOLDER")
    try:
        entries(path)
    except RunError as error:
        raise InputError(f"{flag}{error}") from error.__cause__
    return path


def absolute(path: epath.Path) -> epath.Path:
    """Returns the absolute path of a folder; epath would make a local one of gs://."""
    return path if is_bucket(path) else path.resolve()


def entries(folder: epath.Path) -> list[epath.Path]:
    """Returns what a folder contains; [] if there is none."""
    if not is_bucket(folder):
        return list(folder.iterdir()) if folder.is_dir() else []
    # Not is_dir, which is False for a bucket that cannot be reached.
    with reached(folder), contextlib.suppress(FileNotFoundError):
        return list(folder.iterdir())
    return []


def is_saved(step: epath.Path) -> bool:
    """Returns whether a checkpoint in a bucket was saved to its end.

    Other folders have been renamed at the end of the save.
    """
    with reached(step):
        return not is_bucket(step) or (step / COMMITTED).exists()


@contextlib.contextmanager
def reached(path: str | os.PathLike[str]) -> Generator[None]:
    """Turns errors of gcsfs, which have many types, into a RunError that names the path.

    FileNotFoundError is passed on, and so are all errors of other paths.
    """
    try:
        yield
    except (FileNotFoundError, InputError, RunError):
        raise
    except Exception as error:
        if not is_bucket(path):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"{path}: cannot be used now: {reason[:LONGEST_NAME]}") from error


class Mirror:
    """A local folder of files that grow. `copy` copies those that changed to a bucket.

    Args:
        remote: The folder in the bucket.
    """

    def __init__(self, remote: epath.Path):
        self._remote = remote
        self._temporary = tempfile.TemporaryDirectory(prefix="esrgan_jax-")
        self.folder = Path(self._temporary.name)
        self._copied: dict[Path, tuple[int, int]] = {}

    def fetch(self, name: str) -> None:
        """Copies a file from the bucket, if it is there."""
        source = self._remote / name
        with reached(source), contextlib.suppress(FileNotFoundError):
            (self.folder / name).write_bytes(source.read_bytes())

    def copy(self) -> None:
        """Copies the files that are new or have changed since the last copy.

        Raises:
            RunError: The bucket cannot be used.
        """
        for path in sorted(self.folder.rglob("*")):
            status = path.stat()
            changed = status.st_size, status.st_mtime_ns
            if path.is_file() and self._copied.get(path) != changed:
                target = self._remote / path.relative_to(self.folder).as_posix()
                with reached(target):
                    target.write_bytes(path.read_bytes())
                self._copied[path] = changed

    def close(self) -> None:
        """Removes the local folder."""
        self._temporary.cleanup()
