"""Locks a folder for one process: the workdir of a run, or the parts of a video."""

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
SHARED_SECONDS = 30.0  # until another machine sees a new file
_held: set[int] = set()  # descriptors of locks


def _leave() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


# A forked child would also hold the lock, even after its parent was killed.
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave)


@contextlib.contextmanager
def hold(workdir: epath.Path) -> Generator[None]:
    """Locks a workdir while the block runs.

    Raises:
        InputError: Another run holds the lock, or the workdir cannot be created.
        RunError: The disk is full.
    """
    lock = locked(workdir, f"{workdir}: another run uses this folder", "--workdir")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise write_error(workdir / NAME, error) from None
            raise InputError(f"--workdir={workdir} cannot be written: {error.strerror}") from None
        yield


def check_shared(workdir: epath.Path) -> None:
    """Raises InputError if a workdir that another process holds is not seen here.

    A network file system may show the lock some seconds later.
    """
    if sys.platform == "win32":  # see `locked`
        return
    end = time.monotonic() + SHARED_SECONDS
    while not (os.path.isdir(workdir) and NAME in os.listdir(workdir)):
        if time.monotonic() > end:
            raise InputError(
                f"--workdir={workdir} is not the folder that process 0 sees: all processes need "
                "one of a file system that they share"
            )
        time.sleep(0.1)


@contextlib.contextmanager
def locked(folder: os.PathLike[str], busy: str, flag: str) -> Generator[None]:
    """Locks a folder against other processes, of this machine or over NFS, while the block runs.

    The lock is the kernel's (flock), so it is released however this process ends. The lock file
    contains the owner and is removed at the end. A file system without locks causes a warning. On
    Windows nothing is locked.

    Args:
        folder: Created if it is missing.
        busy: The beginning of the message for a second process.
        flag: The flag that a second process can change instead of waiting.

    Raises:
        InputError: Another process holds the lock.
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
        except (FileExistsError, FileNotFoundError) as removed:  # perhaps by a process that ends
            error = removed
            continue
        _held.add(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "process unknown"
            _release(descriptor)
            raise InputError(
                f"{busy} ({holder}); wait for it or stop it, or choose another {flag}"
            ) from None
        except OSError as failure:
            print(
                f"warning: {folder}: its file system has no locks ({failure.strerror}), so "
                "do not start a second run here",
                file=sys.stderr,
            )
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        _release(descriptor)  # its owner removed the file before releasing the lock
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
        if descriptor in _held:  # a forked child has closed it
            with contextlib.suppress(OSError):
                os.unlink(path)
            _release(descriptor)


def _release(descriptor: int) -> None:
    _held.remove(descriptor)
    os.close(descriptor)
