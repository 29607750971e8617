"""Tests of which surroundings and flags make several processes; test_processes.py starts some."""

import pytest

from esrgan_jax import distributed
from esrgan_jax.errors import InputError

MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def initialized(monkeypatch) -> list:
    """Returns the list of what JAX was told, and leaves no launcher around the test."""
    for name in {*SLURM, *(name for names in distributed.LAUNCHERS.values() for name in names)}:
        monkeypatch.delenv(name, raising=False)
    calls = []
    monkeypatch.setattr(distributed, "_initialize", lambda *given: calls.append(given))
    return calls


@pytest.mark.parametrize(
    ("surroundings", "flags", "told"),
    [
        ({}, (None, None, None), []),
        ({}, (None, 1, None), []),
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, (None, None, None), []),
        (SLURM, (None, None, None), [(None, None, None, None)]),
        (SLURM, ("a:1", None, None), [("a:1", None, None, None)]),
        (MPI, ("a:1", None, None), [("a:1", 4, 1, "deactivate")]),
        ({}, ("a:1", 2, 0), [("a:1", 2, 0, "deactivate")]),
    ],
)
def test_jax_is_initialised_if_there_are_several_processes(
    monkeypatch, initialized, surroundings, flags, told
):
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    distributed.join(*flags)
    assert initialized == told


@pytest.mark.parametrize(
    ("surroundings", "flags", "message"),
    [
        (MPI, (None, None, None), "Open MPI started 4 tasks of this command"),
        (SLURM, (None, 1, None), "srun started 2 tasks of this command"),
        ({}, ("a:1", None, None), "give --coordinator=HOST:PORT, --num_processes and"),
        ({}, (None, 2, 0), "give --coordinator=HOST:PORT, --num_processes and"),
        ({}, ("a:1", 0, 0), "--num_processes=0: take 1 or more"),
    ],
)
def test_tasks_that_would_not_find_each_other_are_refused(
    monkeypatch, initialized, surroundings, flags, message
):
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as refused:
        distributed.join(*flags)
    assert str(refused.value).startswith(message)
    assert initialized == []


def test_one_process_gathers_its_own_value():
    assert distributed.gather({"a": 1}) == [{"a": 1}]
    assert distributed.first()
