"""Locks a folder for one process: a workdir of a run, or the parts of a video."""

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Generator

from etils import epath

from esrgan_jax.errors import InputError
from esrgan_jax.files import write_error

NAME = ".lock"
ATTEMPTS = 100
_held: set[int] = set()  # descriptors of locks


def _leave() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


# A forked child would hold the lock, too, and live on with it where its parent is killed.
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave)


@contextlib.contextmanager
def hold(workdir: epath.Path) -> Generator[None]:
    """No other run can hold the same workdir meanwhile; buckets (gs://) are not locked.

    Raises:
        InputError: Another run holds it, or the workdir cannot be made.
        RunError: There is no room for the file.
    """
    if "://" in os.fspath(workdir):
        yield
        return
    lock = locked(workdir, f"{workdir}: another run is at work here", "--workdir")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise write_error(workdir / NAME, error) from None
            raise InputError(f"--workdir={workdir} cannot be written: {error.strerror}") from None
        yield


@contextlib.contextmanager
def locked(folder: os.PathLike[str], busy: str, flag: str) -> Generator[None]:
    """No other process can hold the same folder meanwhile, from this machine or over NFS.

    The lock is the kernel's (flock): it ends with this process, however that ends. A file in the
    folder says who holds it, and is removed at the end. Where a file system has no locks, that is
    told; on Windows there is none.

    Args:
        folder: Made if it is missing.
        busy: The beginning of the sentence for the process that comes second.
        flag: What it may change instead of waiting.

    Raises:
        InputError: Another process holds it.
        OSError: The folder or the file cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    path = os.path.join(folder, NAME)
    error: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    for _ in range(ATTEMPTS):
        try:
            os.makedirs(folder, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileExistsError, FileNotFoundError) as gone:  # maybe removed by one that just ends
            error = gone
            continue
        _held.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "process unknown"
            _release(descriptor)
            raise InputError(
                f"{busy} ({holder}); wait for it or stop it, or take another {flag}"
            ) from None
        except OSError as none:
            print(
                f"warning: {folder}: its file system has no locks ({none.strerror}): nothing "
                "keeps a second run from spoiling this one",
                file=sys.stderr,
            )
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        _release(descriptor)  # of a file that its owner removed before it let go
    else:
        raise error
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor,
            f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(),
        )
        yield
    finally:
        if descriptor in _held:  # in a forked child it is closed
            with contextlib.suppress(OSError):
                os.unlink(path)
            _release(descriptor)


def _release(descriptor: int) -> None:
    _held.remove(descriptor)
    os.close(descriptor)
