"""Tests of the page's files, each of which belongs to one browser."""

import io
import zipfile

import pytest

from esrgan_jax.app import session_files
from esrgan_jax.app.session_files import SessionFiles, zipped
from esrgan_jax.errors import InputError

ONE, TWO = "a" * 43, "b" * 43


@pytest.fixture
def files(tmp_path):
    return SessionFiles(tmp_path)


def add_file(files, browser, name="photo.png", content=b"pixels"):
    path = files.place(name)
    path.write_bytes(content)
    return files.add(browser, path)


def test_only_the_browser_that_added_a_file_can_read_it(files):
    key = add_file(files, ONE)
    assert files.path(ONE, key).read_bytes() == b"pixels"
    for browser in (TWO, "", ONE[:-1], ONE + "a"):
        with pytest.raises(InputError, match="there is no such file"):
            files.path(browser, key)
    with pytest.raises(InputError, match="there is no such file"):
        files.path(ONE, "../../etc/passwd")


def test_a_url_hides_the_folder_and_has_a_random_key(files, tmp_path):
    first, second = add_file(files, ONE, "my cat?.png"), add_file(files, ONE, "my cat?.png")
    assert files.url(first) == f"files/{first}/my%20cat%3F.png"
    assert first != second
    assert len(first) >= 20
    assert str(tmp_path) not in files.url(first)


def test_a_browser_can_remove_only_its_own_files(files):
    key = add_file(files, ONE)
    path = files.path(ONE, key)
    files.remove(TWO, [key, "none"])
    assert path.is_file()
    files.remove(ONE, [key])
    assert not path.parent.exists()


def test_old_files_are_deleted_when_new_ones_are_added(files, monkeypatch):
    monkeypatch.setattr(session_files, "HOURS", -1)
    old = add_file(files, ONE)
    path = files.path(ONE, old)
    add_file(files, TWO)
    assert not path.exists()
    with pytest.raises(InputError):
        files.path(ONE, old)


def test_a_released_file_is_deleted_after_a_delay(files, monkeypatch):
    key = add_file(files, ONE)
    path = files.path(ONE, key)
    files.release([key, "none"])
    add_file(files, TWO)
    assert path.is_file()
    monkeypatch.setattr(session_files, "DELETE_AFTER", -1)
    files.release([key])
    add_file(files, TWO)
    assert not path.exists()


def test_an_archive_has_all_files_under_unique_names(tmp_path):
    paths = []
    for folder, content in (("a", b"1" * 3_000_000), ("b", b"2"), ("c", b"")):
        paths.append(tmp_path / folder / ("Photo.png" if folder == "b" else "photo.png"))
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(content)
    pieces = list(zipped(paths))
    assert max(map(len, pieces)) < 2 * session_files.CHUNK  # streamed, not built in memory
    with zipfile.ZipFile(io.BytesIO(b"".join(pieces))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["photo.png", "Photo-2.png", "photo-3.png"]
        assert [archive.read(name) for name in archive.namelist()] == [b"1" * 3_000_000, b"2", b""]
