"""Locks of folders: one run per workdir, and locks that end with their process."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from etils import epath

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.folder_lock import NAME, hold


def test_a_second_run_in_the_same_workdir_is_refused(tmp_path):
    workdir = epath.Path(tmp_path) / "new" / "run"
    for _ in range(2):  # a released lock can be taken again
        with hold(workdir):
            with (
                pytest.raises(
                    InputError, match=rf"run: another run .*process {os.getpid()} on \S+ s"
                ),
                hold(workdir),
            ):
                pass
            with hold(workdir.parent):  # another folder has its own lock
                pass
    link = epath.Path(tmp_path) / "link"
    (tmp_path / "link").symlink_to(workdir)
    with hold(workdir), pytest.raises(InputError, match="another run"), hold(link):
        pass


HOLD = """
import os, sys, time
from etils import epath
from esrgan_jax.folder_lock import hold
with hold(epath.Path(sys.argv[1])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)  # by now the child has released its copy of the lock
    time.sleep(60)
"""


def test_a_killed_process_releases_its_lock_while_its_children_live(tmp_path):
    """After kill -9 of the owner, its forked child lives on and the lock is free."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with (
            pytest.raises(InputError, match=f"process {process.pid} on"),
            hold(epath.Path(tmp_path)),
        ):
            pass
        process.kill()
        process.wait()
        os.kill(child, 0)  # the child lives
        with hold(epath.Path(tmp_path)):
            assert f"process {os.getpid()} on" in (tmp_path / NAME).read_text()
    finally:
        os.kill(child, 9)


# JAX warns about os.fork, but this child exits at once.
@pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning", "ignore:.*multi-threaded.*fork:DeprecationWarning"
)
def test_a_child_that_exits_does_not_release_the_lock_of_its_parent(tmp_path):
    with hold(epath.Path(tmp_path)):
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(InputError, match="another run"), hold(epath.Path(tmp_path)):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with hold(epath.Path(tmp_path)):
        assert str(os.getpid()) in (tmp_path / NAME).read_text()
    assert f"warning: {tmp_path}: its file system has no locks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "raised", "message"),
    [
        (errno.EACCES, InputError, "--workdir=.* cannot be written: Permission denied"),
        (errno.EROFS, InputError, "--workdir=.* cannot be written: Read-only"),
        (errno.ENOSPC, RunError, "no space left on the disk"),
        (errno.EDQUOT, RunError, "quota"),
    ],
)
def test_an_unwritable_workdir_is_refused(tmp_path, monkeypatch, number, raised, message):
    def open_(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", open_)
    with pytest.raises(raised, match=message), hold(epath.Path(tmp_path)):
        pass


def test_a_file_in_place_of_the_workdir_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    for path in ("run", "run/a"):
        with (
            pytest.raises(
                InputError, match=r"--workdir=\S+/run\S* cannot be written: (Not a|File)"
            ),
            hold(epath.Path(tmp_path) / path),
        ):
            pass


def test_a_lock_whose_file_is_deleted_is_never_held_twice(tmp_path):
    """The owner deletes the file; a process that had it open must not then lock that file."""
    script = """
import contextlib, os, pathlib, sys, time
from esrgan_jax.errors import InputError
from esrgan_jax.folder_lock import locked
folder, held = pathlib.Path(sys.argv[1]) / "parts", pathlib.Path(sys.argv[1]) / "held"
count, end = 0, time.monotonic() + 1.5
while time.monotonic() < end or count <= 10 and time.monotonic() < end + 30:  # a busy disk
    with contextlib.suppress(InputError):
        with locked(folder, "busy", "--output"):
            os.close(os.open(held, os.O_CREAT | os.O_EXCL))
            count += 1
            held.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()
print(count)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = [int(process.communicate()[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert min(counts) > 10
    assert list(tmp_path.iterdir()) == []
