"""Wheels for machines without internet, with pip replaced."""

import json
from pathlib import Path

import pytest

from esrgan_jax.errors import InputError, RunError
from tools import collect_wheels

RESOLVED = (("jax", "0.11.2"), ("jaxlib", "0.11.2"), ("ml_dtypes", "0.6.0"), ("PyYAML", "6.0"))
RESOLVED += (("ml_collections", "1.1.0"), ("numpy", "2.5.5"))


@pytest.fixture
def calls(monkeypatch):
    """The calls of pip, which resolves RESOLVED and downloads wheels of 1 MiB."""
    found = []

    def pip(*arguments):
        found.append(arguments)
        options = dict(a.split("=", 1) for a in arguments if a.startswith("--") and "=" in a)
        if arguments[0] == "install":
            items = [{"metadata": {"name": name, "version": version}} for name, version in RESOLVED]
            Path(options["--report"]).write_text(json.dumps({"install": items}))
        for name, *_ in (
            a.split("==") for a in arguments if arguments[0] == "download" and "==" in a
        ):
            Path(options["--dest"], f"{name}.whl").write_bytes(bytes(2**20))

    monkeypatch.setattr(collect_wheels, "_pip", pip)
    return found


def test_what_comes_with_jax_is_left_out(calls, tmp_path):
    folder = tmp_path / "wheels"
    wheels = collect_wheels.collect(folder, ["ml-collections"], "0.11.2")
    assert [wheel.name for wheel in wheels] == ["PyYAML.whl", "ml_collections.whl"]
    assert (folder / "requirements.txt").read_text() == "ml-collections>=1.1,<2\n"
    assert calls[0][-2:] == ("ml-collections>=1.1,<2", "jax==0.11.2")
    assert {"--python-version=3.12", "--only-binary=:all:", "--no-deps"} <= set(calls[1])
    assert calls[1][-2:] == ("PyYAML==6.0", "ml_collections==1.1.0")


def test_wheels_that_are_too_large_are_refused(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(collect_wheels, "LARGEST", 2**20)
    with pytest.raises(RunError, match="have 2 MiB, more than 1"):
        collect_wheels.main([f"--output={tmp_path / 'wheels'}"])
    assert calls[0][-1] == "jax"


def test_only_wheels_are_replaced_and_only_by_all_that_are_needed(calls, tmp_path, monkeypatch):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("old.whl", "requirements.txt", "notes.txt"):
        (folder / name).write_text(name)
    for output in (folder, folder / "notes.txt"):
        with pytest.raises(InputError, match=r"has notes\.txt besides wheels|is a file"):
            collect_wheels.collect(output, ["ml-collections"])
    assert not calls
    (folder / "notes.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(collect_wheels, "LARGEST", 2**20)
        with pytest.raises(RunError, match="name only what is missing"):
            collect_wheels.collect(folder, ["ml-collections"])
    assert sorted(path.read_text() for path in folder.iterdir()) == ["old.whl", "requirements.txt"]
    wheels = collect_wheels.collect(folder, ["ml-collections"])
    assert {*folder.iterdir()} == {*wheels, folder / "requirements.txt"}
    assert [path.name for path in wheels] == ["PyYAML.whl", "ml_collections.whl"]
    assert [path.name for path in tmp_path.iterdir()] == ["wheels"]


def test_every_package_is_required_by_setup_cfg():
    requirements = collect_wheels.requirements(collect_wheels.NEEDED)
    assert [line.split(">=")[0] for line in requirements] == list(collect_wheels.NEEDED)
    with pytest.raises(InputError, match="torch: choose from absl-py"):
        collect_wheels.requirements(["torch"])
