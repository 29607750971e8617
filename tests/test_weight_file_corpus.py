"""What fuzzing found worth keeping, read again: each is tensors or a sentence, nothing more."""

import zipfile
from pathlib import Path

import pytest

from tests.watched import read_watched

ARCHIVE = Path(__file__).with_name("weight_file_corpus.zip")
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_corpus(tmp_path, part):
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


def test_what_is_watched_is_noticed(tmp_path, monkeypatch):
    """The watch itself can fail: code that runs, a file written, memory, time."""
    path = tmp_path / "a.pth"
    path.write_bytes(b"")

    def reads_by(action):
        monkeypatch.setattr("tests.watched.read_tensors", lambda _: action() or {})
        with pytest.raises(AssertionError) as error:
            read_watched(path)
        return str(error.value)

    assert "exec" in reads_by(lambda: exec("1"))
    assert "subprocess" in reads_by(lambda: __import__("subprocess").run(["true"]).args and None)
    assert "to write" in reads_by(lambda: open("/dev/null", "w").close())
    assert "bytes of memory" in reads_by(lambda: len(bytearray(2**26)) and None)
    monkeypatch.setattr("tests.watched.SECONDS", 0.0)
    assert " s" in reads_by(lambda: None)
