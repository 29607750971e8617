"""Short unique names of the models to compare."""

import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.contestants import short_names


def test_names_are_the_last_parts_of_the_paths(tmp_path):
    (tmp_path / "v1.5").mkdir()
    (tmp_path / "RRDB_x4.v2.pth").touch()
    models = [tmp_path / "v1.5", tmp_path / "RRDB_x4.v2.pth", "esrgan-x4"]
    assert short_names([str(model) for model in models]) == ["v1.5", "RRDB_x4.v2", "esrgan-x4"]


def test_equal_names_are_made_unique(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short_names(["runs/a/gan", "runs/b/gan/", "c"]) == ["a/gan", "b/gan", "c"]
    assert short_names(["a/x/gan", "b/x/gan", "b/y/gan"]) == ["a/x/gan", "b/x/gan", "y/gan"]
    for name in ("net.pth", "net.npz"):
        (tmp_path / name).touch()
    assert short_names(["net.pth", "net.npz"]) == ["net.pth", "net.npz"]
    assert short_names([f"{tmp_path}/bicubic"]) == [f"{tmp_path.name}/bicubic"]
    assert short_names(["."]) == [tmp_path.name]


def test_the_same_model_twice_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--model=\./a is given twice"):
        short_names(["./a", "a"])
