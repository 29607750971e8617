"""Writing files atomically, and the errors of failed writes."""

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from esrgan_jax import files
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import no_space, replacing, write_bytes, write_error, writing


def write(path, error=None):
    with replacing(path) as partial, writing(path):
        assert partial.parent == path.parent
        partial.write_text("new")
        if error:
            raise error


def test_a_write_replaces_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    for _ in range(2):
        write(path)
        assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
        assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(28, "No space left on device"), RunError, r"a\.txt: could not .*: no space left"),
        (
            OSError(5, "Input/output error"),
            RunError,
            r"a\.txt: could not be .*: Input/output error",
        ),
        (ValueError("ours"), ValueError, "ours"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_failed_write_leaves_the_old_file(tmp_path, error, raised, message):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(raised, match=message):
        write(path, error)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_read_error_is_not_reported_as_a_write_error(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError, match="source"), replacing(path) as partial:
        partial.write_bytes((tmp_path / "source").read_bytes())
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_sync_or_rename_leaves_the_old_file(tmp_path, monkeypatch, call):
    """Some disks report that they are full only at the sync, so the rename comes after it."""
    path, calls = tmp_path / "a.txt", []
    path.write_text("old")

    def fails(name):
        calls.append(name)
        if name == call:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", lambda _: fails("fsync"))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda *a: (fails("replace"), replace(*a)))
    with pytest.raises(RunError, match=r"a\.txt: could not be written: Input/output error"):
        write_bytes(path, b"new")
    assert calls == ["fsync", "replace"][: 1 + (call == "replace")]
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_missing_folders_and_folders_as_target_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        write(tmp_path / "absent" / "a.txt")
    with pytest.raises(InputError, match="it is a folder"):
        write(tmp_path)


def test_the_error_of_a_full_disk_names_the_folder_and_free_space(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    wrapped = RuntimeError("the library failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "any text")
    full = [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        ValueError("unable to write: system error: No space left on device"),
        wrapped,
    ]
    for free, expected in (
        (0, "0.0 KiB"),
        (5 << 9, "2.5 KiB"),
        (5 << 19, "2.5 MiB"),
        (3 << 29, "1.5 GiB"),
    ):
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _, free=free: usage(free))
        for error in full:
            for path in (tmp_path, tmp_path / "a.png", tmp_path / "absent" / "a.png"):
                assert no_space(path, error) == (
                    f"no space left on the disk, {expected} are free in {tmp_path}; "
                    "make room, then run it again"
                )
    error = write_error(Path("b/a.png"), full[0])
    assert str(error).startswith("b/a.png: could not be written: no space left on the disk")
    assert str(error).lower().count("no space left") == 1
    expected = "standard output: could not be written: No space left on device"
    assert str(write_error("standard output", full[0])) == expected


def test_exceeded_quotas_and_missing_inodes_have_their_own_messages(tmp_path, monkeypatch):
    error = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    assert no_space(tmp_path / "a", error).startswith(f"your quota of the disk of {tmp_path} is us")
    inodes = namedtuple("inodes", "f_favail")
    monkeypatch.setattr(files.os, "statvfs", lambda _: inodes(0))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(1 << 30))
    full = OSError(errno.ENOSPC, "")
    assert no_space(tmp_path / "a", full).startswith(f"no more files fit on the disk of {tmp_path}")


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), ValueError("28"), PermissionError(13)])
def test_other_errors_are_not_reported_as_a_full_disk(tmp_path, error):
    assert no_space(tmp_path, error) == ""
    assert str(error) in str(write_error(tmp_path, error)) or "I/O" in str(error)
