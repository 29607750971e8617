"""Trains a tiny network with several processes, and records what they hold of memory and files.

    python -m benchmarks.soak --workdir=DIR --steps=5000 > soak.jsonl

Nothing that a process holds may grow with the number of steps and saves. Linux only.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from esrgan_jax.checkpoint import find_checkpoint
from esrgan_jax.command_line import parse
from esrgan_jax.errors import RunError, run_command
from esrgan_jax.images.image_file import write_image

TINY = {
    "stage": "psnr",
    "degradation.name": "bicubic",
    "generator.num_blocks": 1,
    "generator.num_features": 4,
    "generator.num_growth": 2,
    "psnr.init_from": "",
    "psnr.hr_patch": 16,
    "psnr.batch_size": 4,
    "data.num_workers": 0,
    "log_every": 10,
    "eval_every": 500,
}


def held(pid: int) -> dict[str, float]:
    """Returns what a process holds now: resident memory in MiB, threads and descriptors."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return {
        "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
    }


def start(workdir: Path, steps: int, every: int, processes: int) -> list[subprocess.Popen[bytes]]:
    """Starts a run on images that it makes, or continues it."""
    images = workdir / "images"
    images.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(8):
        image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_image(images / f"{index}.png", image)
    settings = TINY | {"psnr.steps": steps, "psnr.periods": (steps,), "checkpoint_every": every}
    settings |= {"data.train": images, "data.val": images}
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "esrgan_jax.main", "--config=configs/demo.py"]
    command += [f"--workdir={workdir / 'run'}", f"--coordinator=localhost:{port}"]
    command += [f"--num_processes={processes}"]
    command += [f"--config.{name}={value}" for name, value in settings.items()]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return [
        subprocess.Popen([*command, f"--process_id={index}"], stdout=sys.stderr, env=environment)
        for index in range(processes)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description="Train with several processes and print what each holds as lines of JSON.",
    )
    parser.add_argument("--workdir", required=True, type=Path, help="folder of images and the run")
    parser.add_argument("--steps", type=int, default=5000, help="steps in all (5000)")
    parser.add_argument("--every", type=int, default=10, help="steps between two saves (10)")
    parser.add_argument("--processes", type=int, default=2, help="processes (2)")
    parser.add_argument("--minutes", type=float, default=600, help="SIGTERM to the last one then")
    parser.add_argument("--interval", type=float, default=10, help="seconds between two looks (10)")
    args = parse(parser, argv)
    running = start(args.workdir, args.steps, args.every, args.processes)
    began, signalled = time.monotonic(), False
    while all(process.poll() is None for process in running):
        time.sleep(args.interval)
        seconds = time.monotonic() - began
        newest = find_checkpoint(args.workdir / "run" / "psnr")
        step = int(newest.name) if newest else 0
        for index, process in enumerate(running):
            if process.poll() is None:
                line = {"seconds": round(seconds), "step": step, "process": index}
                print(json.dumps(line | held(process.pid)), flush=True)
        if seconds > 60 * args.minutes and not signalled:
            running[-1].send_signal(signal.SIGTERM)
            signalled = True
    codes = [process.wait() for process in running]
    if codes != [128 + signal.SIGTERM if signalled else 0] * len(running):
        raise RunError(f"the processes ended with exit codes {codes}")


if __name__ == "__main__":
    run_command(main)
