"""Checkpoints of runs: what saving holds on to, what is restored, and what is refused."""

import errno
import os
import resource
import threading
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from esrgan_jax.errors import RunError
from esrgan_jax.run_checkpoints import RunCheckpoints
from esrgan_jax.train_state import Network, TrainState


def state_at(step: int) -> TrainState:
    kernel = np.random.default_rng(step).standard_normal((3, 3, 16, 16), np.float32)
    params = {"conv": {"kernel": jnp.asarray(kernel)}}
    return TrainState(jnp.int32(step), Network(params, {}, (jnp.int32(step),)))


def fresh_data():
    return iter(grain.MapDataset.range(1000).shuffle(seed=0).to_iter_dataset())


@pytest.fixture
def folder(tmp_path) -> epath.Path:
    return epath.Path(tmp_path) / "psnr"


def target() -> TrainState:
    return jax.eval_shape(lambda: state_at(0))


def held() -> tuple[int, int]:
    """File descriptors and threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def test_thirty_saves_leave_no_thread_and_no_file_open(folder):
    data = fresh_data()
    with RunCheckpoints(folder, 2) as checkpoints:
        for step in range(1, 34):
            checkpoints.save(state_at(step), data, {})
            if step == 3:
                checkpoints.wait()
                before = held()
        checkpoints.wait()
        assert held() == before
    assert sorted(os.listdir(folder / "checkpoints")) == ["32", "33"]


@pytest.fixture
def small_files():
    """No file of this process grows beyond 4 KiB: a write fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_save_that_fails_is_told_and_the_one_before_stays(folder, request, capfd):
    data = fresh_data()
    with RunCheckpoints(folder, 1) as checkpoints:
        checkpoints.save(state_at(1), data, {})
    enough = request.getfixturevalue("small_files")
    with RunCheckpoints(folder, 1) as checkpoints:
        checkpoints.save(state_at(2), data, {})
        message = (
            r"psnr/checkpoints: checkpoint 2 .* saved, the one of step 1 is there: File too large$"
        )
        with pytest.raises(RunError, match=message):
            checkpoints.save(state_at(3), data, {})
    enough()
    assert capfd.readouterr() == ("", "")  # of all that Orbax logs and prints
    with RunCheckpoints(folder, 1) as checkpoints:
        assert checkpoints.latest == 1
        restored = checkpoints.restore(target(), fresh_data())
        jax.tree.map(np.testing.assert_array_equal, restored, state_at(1))
        checkpoints.save(state_at(2), data, {})
    assert os.listdir(folder / "checkpoints") == ["2"]


def test_the_last_save_that_fails_ends_the_run(folder, request):
    request.getfixturevalue("small_files")
    with (
        pytest.raises(
            RunError, match="checkpoint 1 could not be saved, there is none before: File too"
        ),
        RunCheckpoints(folder, 1) as checkpoints,
    ):
        checkpoints.save(state_at(1), fresh_data(), {})


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "no space left on the disk, .* free in .*psnr/checkpoints; m"),
        (ValueError("UNAVAILABLE: [OS error 28: ENOSPC No space left on device]"), "no space left"),
        (OSError(errno.EDQUOT, "x"), "your quota of the disk"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (RuntimeError("first line\nsecond"), "first line$"),
    ],
)
def test_why_a_save_failed_is_told(folder, monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    with RunCheckpoints(folder, 1) as checkpoints:
        monkeypatch.setattr(checkpoints._checkpointer, "save_checkpointables_async", fail)
        with pytest.raises(RunError, match=reason):
            checkpoints.save(state_at(1), fresh_data(), {})


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "psnr").write_text("")
    with pytest.raises(RunError, match=r"psnr/checkpoints: could not be written: \w"):
        RunCheckpoints(epath.Path(tmp_path) / "psnr", 1)
