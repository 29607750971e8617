"""Damaged checkpoints of generators: they load unchanged, or are refused with a message."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from esrgan_jax.checkpoint import find_checkpoint, load_generator, save_generator, verify
from esrgan_jax.errors import InputError
from esrgan_jax.models.rrdb import RRDBNet


@pytest.fixture(scope="module")
def saved(tmp_path_factory, random_generator):
    fields, params, _ = random_generator(np.random.default_rng(0), num_blocks=1)
    path = tmp_path_factory.mktemp("saved") / "generator"
    save_generator(path, RRDBNet(**fields), {"params": params})
    return path, params


def damages(path: Path) -> list[bytes | None]:
    """Returns damaged contents of a file; None means that the file is deleted."""
    data = path.read_bytes()
    contents = [None, data[: len(data) // 2]]
    for start in (len(data) // 2, max(len(data) - 8, 0)):
        changed = bytes(byte ^ 0x15 for byte in data[start : start + 8])
        contents.append(data[:start] + changed + data[start + 8 :])
    return contents


@pytest.mark.parametrize("count", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_damaged_generator_loads_unchanged_or_is_refused(saved, tmp_path, capfd, count):
    """Damages each file in `count` of four ways, the first of which is another for each file."""
    path, params = saved
    verify(find_checkpoint(path))
    refused = 0
    names = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    for index, name in enumerate(names):
        ways = damages(path / name)
        for contents in (ways * 2)[index % 4 :][:count]:
            copy = tmp_path / "generator"
            shutil.copytree(path, copy)
            (copy / name).unlink() if contents is None else (copy / name).write_bytes(contents)
            try:
                _, variables = load_generator(copy)
            except InputError as error:
                assert f"{copy}: is damaged (" in str(error), error  # noqa: PT017
                refused += 1
            else:
                jax.tree.map(np.testing.assert_array_equal, variables["params"], params)
            shutil.rmtree(copy)
    assert refused > len(names) * count / 4
    assert capfd.readouterr().err == ""


def test_folders_without_a_checkpoint_are_not_called_damaged(tmp_path):
    (tmp_path / "2020").mkdir()
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_generator(tmp_path)
    (tmp_path / "checkpoints" / "8").mkdir(parents=True)
    with pytest.raises(InputError, match=r"checkpoints/8: is damaged \(it has no _CHECKPOINT"):
        load_generator(tmp_path)
