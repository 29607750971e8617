"""What a failed write leaves, and what it says."""

import pytest

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import replacing


def write(path, error=None):
    with replacing(path) as partial:
        assert partial.parent == path.parent
        partial.write_text("new")
        if error:
            raise error


def test_the_new_file_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "a.txt"
    for _ in range(2):
        write(path)
        assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
        assert path.read_text() == "new"


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(28, "No space left on device"), RunError, r"a\.txt: could not .*: No space left"),
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


def test_places_where_no_file_can_be_are_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        write(tmp_path / "absent" / "a.txt")
    with pytest.raises(InputError, match="it is a folder"):
        write(tmp_path)
