"""Runs of one or several real processes, started by the command line of training."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from esrgan_jax.images.image_file import write_image

ROOT = Path(__file__).parents[1]
# Six steps of the PSNR stage and four of the GAN stage, of batches that 1, 2, 3 and 6 divide.
TINY = {
    "stage": "both",
    "degradation.function": "tests.degradations:blurred",
    "degradation.margin": 8,
    "generator.num_blocks": 1,
    "generator.num_features": 4,
    "generator.num_growth": 2,
    "discriminator.num_features": 2,
    "psnr.init_from": "",
    "psnr.learning_rate": 2e-3,
    "psnr.periods": (2400,),
    "psnr.steps": 6,
    "psnr.hr_patch": 16,
    "psnr.batch_size": 6,
    "psnr.ema_decay": 0.9,
    "gan.steps": 4,
    "gan.periods": (5,),
    "gan.hr_patch": 32,
    "gan.batch_size": 6,
    "gan.ema_decay": 0.9,
    "gan.perceptual_weight": 0.0,
    # Where a gradient of the discriminator is only rounding, Adam makes a step of this size of it:
    # a bias of all outputs has no effect on the relativistic losses.
    "gan.d_learning_rate": 1e-5,
    "log_every": 1,
    "eval_every": 4,
    "checkpoint_every": 2,
}

# The variables in which launchers tell a process its number.
RANKS = {"srun": "SLURM_PROCID", "mpirun": "OMPI_COMM_WORLD_RANK"}
JAX_PORTS = 2**12  # how many ports JAX chooses from by the number of a job


class Ended(NamedTuple):
    """How a process ended: its exit code, and all that it printed."""

    code: int
    printed: str


class Process(NamedTuple):
    """A process of a run, and the file that it prints to."""

    popen: subprocess.Popen[bytes]
    log: Path


def write_photographs(folder: Path, count: int = 5) -> None:
    """Writes images of random squares, 80x64 px, which differ from each other everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        write_image(folder / f"{index}.png", np.kron(coarse, np.ones((8, 8, 1), np.uint8)))


def start(
    workdir: Path,
    settings: Mapping[str, Any],
    count: int,
    devices: int = 1,
    before: str = "",
    flags: Sequence[str] = (),
    launcher: str = "",
) -> list[Process]:
    """Starts `python -m esrgan_jax.main` in `count` processes that find each other.

    Args:
        workdir: The run's folder. What process i prints is appended to WORKDIR-i.log beside it.
        settings: Changes of configs/demo.py, such as TINY with `data.train`.
        count: The number of processes; one knows of no others.
        devices: The number of simulated devices of each.
        before: Python that each process runs before the command, to do harm or to look.
        flags: Further flags, such as --requeue.
        launcher: "srun" or "mpirun": the processes find each other by the variables that these set,
            see `RANKS`. Otherwise by flags.
    """
    command = [sys.executable, "-m", "esrgan_jax.main"]
    if before:
        run = (
            'import runpy; runpy.run_module("esrgan_jax.main", run_name="__main__", alter_sys=True)'
        )
        command[1:] = ["-c", f"{before}\n{run}"]
    command += ["--config=configs/demo.py", f"--workdir={workdir}", *flags]
    command += [f"--config.{name}={value}" for name, value in settings.items()]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
    if launcher:
        environment |= _surroundings(launcher, count)
    elif count > 1:
        command += [f"--coordinator=localhost:{free_port()}", f"--num_processes={count}"]
    processes = []
    for index in range(count):
        mine = [*command, f"--process_id={index}"] if count > 1 and not launcher else command
        environment |= {RANKS[launcher]: str(index)} if launcher else {}
        log = workdir.with_name(f"{workdir.name}-{index}.log")
        with log.open("ab") as file:
            popen = subprocess.Popen(mine, stdout=file, stderr=file, cwd=ROOT, env=environment)
        processes.append(Process(popen, log))
    return processes


def _surroundings(launcher: str, count: int) -> dict[str, str]:
    """Returns the variables that a launcher sets and JAX reads, without those of `RANKS`."""
    job = free_port() % JAX_PORTS  # JAX computes a port from it
    if launcher == "srun":
        found = {"SLURM_JOB_ID": job, "SLURM_NTASKS": count, "SLURM_STEP_NUM_TASKS": count}
        return {
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_LOCALID": "0",
            **{name: str(value) for name, value in found.items()},
        }
    return {
        "OMPI_MCA_orte_hnp_uri": f"{job * JAX_PORTS}.0;tcp://127.0.0.1:1",
        "OMPI_COMM_WORLD_SIZE": str(count),
        "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    }


def finish(processes: Sequence[Process]) -> list[Ended]:
    """Waits for the end of all processes; kills them if that takes longer than any test may."""
    try:
        codes = [process.popen.wait(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.popen.kill()
            process.popen.wait()
    return [Ended(code, p.log.read_text()) for code, p in zip(codes, processes, strict=True)]


def train(workdir: Path, settings: Mapping[str, Any], count: int, **options: Any) -> list[Ended]:
    """Trains in `count` processes, see `start`, of which all must end with exit code 0."""
    ended = finish(start(workdir, settings, count, **options))
    assert [process.code for process in ended] == [0] * count, ended
    return ended


def after_step(process: int, step: int, do: Callable[[], object], stage: str = "") -> None:
    """Makes a process call a function when it has computed a step; for `before`.

    Args:
        process: Which process does; the others go on as usual.
        step: The number of the step.
        do: The function.
        stage: The stage of the step; "" is the first that has it.
    """
    from esrgan_jax.training import loop

    check = loop.check_finite

    def check_finite(metrics: Any, where: str, folder: Any) -> None:
        if where.startswith(f"step {step} of the {stage}") and _is(process):
            do()
        check(metrics, where, folder)

    loop.check_finite = check_finite


def after_save(process: int, step: int, do: Callable[[], object], stage: str = "psnr") -> None:
    """As `after_step`, but when a save of that step is being written in the background."""
    from esrgan_jax.training.run_checkpoints import RunCheckpoints

    save = RunCheckpoints.save

    def save_and_do(self: RunCheckpoints, state: Any, *rest: Any) -> None:
        save(self, state, *rest)
        if self.stage.name == stage and int(state.step) == step and _is(process):
            do()

    RunCheckpoints.save = save_and_do


def before_stage(process: int, do: Callable[[], object], stage: str) -> None:
    """As `after_step`, but when a stage begins, and the one before it is complete."""
    from esrgan_jax.training import loop

    train = loop.train_stage

    def train_stage(config: Any, which: Any, *rest: Any) -> Any:
        if which.name == stage and _is(process):
            do()
        return train(config, which, *rest)

    loop.train_stage = train_stage


def kill() -> None:
    """Kills this process by kill -9, without a chance to do anything."""
    os.kill(os.getpid(), signal.SIGKILL)


def _is(process: int) -> bool:
    name = "--process_id="
    given = [flag.removeprefix(name) for flag in sys.argv if flag.startswith(name)]
    given += [os.environ[name] for name in RANKS.values() if name in os.environ]
    return [*given, "0"][0] == str(process)


def logged(workdir: Path, stage: str) -> list[dict[str, float]]:
    """Returns the rows of a stage's metrics.jsonl: losses, and scores of the validation."""
    lines = (workdir / stage / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "warning" not in row]


def check_logged(workdir: Path, expected: Path, stage: str) -> None:
    """Checks that two runs logged the same steps, with losses and scores that agree to 1e-6."""
    rows, wanted = logged(workdir, stage), logged(expected, stage)
    assert [row.keys() for row in rows] == [row.keys() for row in wanted]
    names = ("step", "l_", "lr_", "val_") + ("grad_",) * (stage == "psnr")
    for row, other in zip(rows, wanted, strict=True):
        chosen = [name for name in row if name.startswith(names)]
        values, others = ([r[name] for name in chosen] for r in (row, other))
        np.testing.assert_allclose(values, others, rtol=1e-6, atol=1e-6)


def check_same_stage(workdir: Path, expected: Path, stage: str) -> None:
    """Checks that a stage of two runs is equal bit for bit: its log, and the state at its end."""
    import jax  # not above, since processes import this file before the command does

    assert logged(workdir, stage) == logged(expected, stage)
    states = (final_state(folder / stage) for folder in (workdir, expected))
    jax.tree.map(np.testing.assert_array_equal, *states)


def final_state(folder: Path) -> Any:
    """Returns a stage's newest state as NumPy arrays."""
    import jax
    from orbax.checkpoint import v1 as ocp

    from esrgan_jax.checkpoint import find_checkpoint

    step = find_checkpoint(folder)
    saved = ocp.metadata(step, checkpointable_name="state").metadata
    arrays = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), saved)
    return ocp.load(step, arrays, checkpointable_name="state")


def free_port() -> int:
    """Returns a port on which nothing listens."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
