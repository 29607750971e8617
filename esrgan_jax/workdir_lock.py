"""One run at a time in a workdir."""

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Iterator

from etils import epath

from esrgan_jax.errors import InputError
from esrgan_jax.files import write_error

NAME = ".lock"
_held: set[int] = set()  # descriptors of locks


def _leave() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


# A forked child would hold the lock, too, and live on with it where its parent is killed.
os.register_at_fork(after_in_child=_leave)


@contextlib.contextmanager
def hold(workdir: epath.Path) -> Iterator[None]:
    """No other run can hold the same workdir meanwhile, from this machine or over NFS.

    The lock is the kernel's (flock): it ends with this process, however that ends. The file says
    who holds it. Buckets (gs://) are not locked, nor file systems without locks, which is told.

    Raises:
        InputError: Another run holds it, or the workdir cannot be made.
        RunError: There is no room for the file.
    """
    if "://" in os.fspath(workdir):
        yield
        return
    import fcntl  # not on Windows, which Orbax' and Grain's training does not know either

    path = workdir / NAME
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise write_error(path, error) from None
        raise InputError(f"--workdir={workdir} cannot be written: {error.strerror}") from None
    _held.add(descriptor)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "process unknown"
            raise InputError(
                f"{workdir}: another run is at work here ({holder}); wait for it or stop it, or "
                "take another --workdir"
            ) from None
        except OSError as error:
            print(
                f"warning: {workdir}: its file system has no locks ({error.strerror}): nothing "
                "keeps a second run from spoiling this one",
                file=sys.stderr,
            )
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            os.ftruncate(descriptor, 0)
            os.write(
                descriptor,
                f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(),
            )
        except OSError as error:
            raise write_error(path, error) from None
        yield
    finally:
        if descriptor in _held:  # in a forked child it is closed
            _held.remove(descriptor)
            os.close(descriptor)
