"""Checkpoints of runs: what saving holds on to, what is restored, and what is refused."""

import os
import threading
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import pytest
from etils import epath

from esrgan_jax.run_checkpoints import RunCheckpoints
from esrgan_jax.train_state import Network, TrainState


def state_at(step: int) -> TrainState:
    params = {"conv": {"kernel": jnp.full((3, 3, 4, 4), step, jnp.float32)}}
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
