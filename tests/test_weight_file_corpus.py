"""Reads the files that fuzzing found: each is read or refused, without any other effect."""

import zipfile
from pathlib import Path

import pytest

from tests.watched import read_watched

ARCHIVE = Path(__file__).with_name("weight_file_corpus.zip")
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_every_file_of_the_corpus_is_read_or_refused(tmp_path, part):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = archive.namelist()[part::PARTS]
        assert names
        for name in names:
            path.write_bytes(archive.read(name))
            try:
                read_watched(path)
            except Exception as error:
                error.add_note(f"the file is {name} of {ARCHIVE.name}")
                raise


def test_read_watched_detects_code_writes_memory_and_time(tmp_path, monkeypatch):
    """So `read_watched` is a check that can fail."""
    path = tmp_path / "a.pth"
    path.write_bytes(b"")

    def failure_of(action):
        monkeypatch.setattr("tests.watched.read_tensors", lambda _: action() or {})
        with pytest.raises(AssertionError) as error:
            read_watched(path)
        return str(error.value)

    assert "exec" in failure_of(lambda: exec("1"))
    assert "subprocess" in failure_of(lambda: __import__("subprocess").run(["true"]).args and None)
    assert "to write" in failure_of(lambda: open("/dev/null", "w").close())
    assert "bytes of memory" in failure_of(lambda: len(bytearray(2**26)) and None)
    monkeypatch.setattr("tests.watched.SECONDS", 0.0)
    assert " s" in failure_of(lambda: None)
