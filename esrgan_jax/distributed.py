"""Several processes that train together, by `jax.distributed`: how they meet and exchange values.

Values go through the key-value store of JAX's coordinator, which is in process 0: no device takes
part, and a process that waits can still be stopped. One process alone needs none of this.
"""

import itertools
import json
import os
import sys
import threading
import time
from typing import Any

import jax

from esrgan_jax.errors import InputError

JOIN_SECONDS = 300  # to find the other processes
# Started by these, a task has the number of tasks and its own number in these variables.
LAUNCHERS = {
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "Open MPI": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "MPI": ("PMI_SIZE", "PMI_RANK"),
}
ROOT = "esrgan_jax"
_POLL = 0.02  # seconds
_rounds = itertools.count()


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> int:
    """Joins the other processes of this run, before anything else uses JAX's devices.

    Without arguments it does what the surroundings say: JAX finds the processes of SLURM, Open MPI,
    Cloud TPU and indexed jobs of Kubernetes. One process alone stays alone.

    Args:
        coordinator: HOST:PORT of process 0, the same in all processes.
        num_processes: How many there are.
        process_id: Which this one is, from 0.

    Returns:
        The number of processes. They may still choose the number of their devices.

    Raises:
        InputError: The arguments do not fit together, or several tasks were started that would
            not find each other. If they are not all there after JOIN_SECONDS, the process ends with
            a message and exit code 1.
    """
    launched, detected = _launched(), _detected()
    if launched and coordinator and detected < 2:  # JAX does not know every launcher
        num_processes = launched[1] if num_processes is None else num_processes
        process_id = launched[2] if process_id is None else process_id
    given = coordinator, num_processes, process_id
    if num_processes is not None and num_processes < 1:
        raise InputError(f"--num_processes={num_processes}: take 1 or more")
    if num_processes == 1 or (given == (None, None, None) and detected < 2):
        if launched or detected > 1:
            name, count, _ = launched or ("the job", detected, 0)
            raise InputError(
                f"{name} started {count} tasks of this command, and each would train alone in the "
                "same folder: give --coordinator=HOST:PORT, the address of the first, or start one"
            )
        return 1
    if None in given and detected < 2:
        raise InputError(
            "give --coordinator=HOST:PORT, --num_processes and --process_id together: only SLURM, "
            "Open MPI, Cloud TPU and indexed jobs of Kubernetes tell them"
        )
    # Of SLURM and Open MPI, JAX also takes which GPU of the machine is this process's.
    _initialize(coordinator, num_processes, process_id, None if detected > 1 else "deactivate")
    return place()[1]


def _initialize(
    coordinator: str | None, num_processes: int | None, process_id: int | None, method: str | None
) -> None:
    # JAX's own timeout aborts the process with a stack trace.
    late = threading.Timer(JOIN_SECONDS, _give_up, (coordinator or "the first one",))
    late.daemon = True
    late.start()
    try:
        # It would catch SIGTERM.
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            cluster_detection_method=method,
            initialization_timeout=2 * JOIN_SECONDS,
        )
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the processes cannot find each other: {reason:.300}") from error
    finally:
        late.cancel()


def _give_up(where: str) -> None:
    print(
        f"error: the processes did not find each other within {JOIN_SECONDS} s: start all of them, "
        f"and let all reach the coordinator, {where}",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _launched() -> tuple[str, int, int] | None:
    """Returns launcher, number of tasks and number of this one; None if there is one task."""
    for name, (size, rank) in LAUNCHERS.items():
        found = os.environ.get(size, ""), os.environ.get(rank, "")
        if found[0].isdigit() and found[1].isdigit() and int(found[0]) > 1:
            return name, int(found[0]), int(found[1])
    return None


def _detected() -> int:
    """Returns the number of processes that JAX detects; 0 if it knows nothing."""
    from jax._src.clusters import ClusterEnv  # JAX has no public name for it

    kinds: Any = ClusterEnv
    for kind in kinds._cluster_types:
        indexed = kind.__name__ != "K8sCluster" or "JOB_COMPLETION_INDEX" in os.environ
        if indexed and not kind.opt_in_only_method and kind.is_env_present():
            return kind.get_process_count()
    return 0


def first() -> bool:
    """Returns whether this is process 0, which alone writes files and messages."""
    return jax.process_index() == 0


def place() -> tuple[int, int]:
    """Returns which process this is, and of how many, without asking for devices."""
    state = _state()
    return state.process_id, state.num_processes


def gather(value: Any) -> list[Any]:
    """Returns the values of all processes, in their order; all must call it equally often.

    Args:
        value: Plain values, as JSON has them.
    """
    if jax.process_count() == 1:
        return [value]
    number, store = next(_rounds), client()
    store.key_value_set(f"{ROOT}/gather/{number}/{jax.process_index()}", json.dumps(value))
    while len(found := store.key_value_dir_get(f"{ROOT}/gather/{number}/")) < jax.process_count():
        time.sleep(_POLL)
    if number:  # all have written in this round, so all have read the one before
        store.key_value_delete(f"{ROOT}/gather/{number - 1}/{jax.process_index()}")
    texts = {int(key.rpartition("/")[2]): text for key, text in found}
    return [json.loads(texts[index]) for index in range(jax.process_count())]


def wait_for_all() -> None:
    """Waits until all processes have called it."""
    gather(None)


def put(key: str, text: str) -> None:
    """Sets a key that all processes can read."""
    client().key_value_set(f"{ROOT}/{key}", text, allow_overwrite=True)


def put_once(key: str, text: str) -> None:
    """Sets a key that all processes can read, unless one of them has set it already."""
    try:
        client().key_value_set(f"{ROOT}/{key}", text)
    except jax.errors.JaxRuntimeError as error:
        if "ALREADY_EXISTS" not in str(error):
            raise


def read(key: str) -> dict[str, str]:
    """Returns the values below a key, by what follows it."""
    found = client().key_value_dir_get(f"{ROOT}/{key}/")
    return {name.removeprefix(f"{ROOT}/{key}/"): text for name, text in found}


def client() -> Any:
    """Returns the connection to JAX's coordinator."""
    return _state().client


def _state() -> Any:
    from jax._src.distributed import global_state  # JAX has no public name for it

    return global_state
