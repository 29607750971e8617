"""Host memory of the upscale command as images grow: python -m benchmarks.memory > memory.jsonl

Each image is upscaled in a process of its own, so that its peak is its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.command_line import parse
from esrgan_jax.errors import RunError, run_command
from esrgan_jax.images.writer import write_rows

SIDES = (250, 500, 1000, 2000, 4000, 7500)  # of the LR image


def write_noise(path: Path, height: int, width: int) -> None:
    """Returns an image that is neither flat nor hard to compress: gradients with a little noise."""
    rng = np.random.default_rng(0)
    across = np.linspace(0, 200, width)[None, :, None]

    def strips() -> Iterator[np.ndarray]:
        for top in range(0, height, 50):
            rows = np.arange(top, min(top + 50, height))[:, None, None] * 50 / height
            noise = rng.integers(0, 4, (len(rows), width, 3))
            yield (across + rows + noise).astype(np.uint8)

    write_rows(path, strips(), height=height, width=width, bands=3, dtype=np.uint8)


def measure(
    model: str, height: int, width: int, suffix: str, options: Sequence[str] = ()
) -> dict[str, Any]:
    """Measures the command's peak memory and time for an image of the given LR side.

    Raises:
        RunError: The command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "lr.png"), Path(folder, f"sr{suffix}")
        write_noise(source, height, width)
        command = [sys.executable, "-m", "esrgan_jax.upscale", str(source), f"--output={target}"]
        command += [f"--model={model}", "--progress=quiet", *options]
        # In a process between, because the peak of children is that of the largest so far.
        counted = (
            "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
        )
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", counted, *command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RunError(f"{' '.join(command)}: {done.stderr}")
        kilobytes = int(done.stdout) // (1024 if sys.platform == "darwin" else 1)
        return {
            "model": Path(model).name,
            "lr_height": height,
            "lr_width": width,
            "suffix": suffix,
            "peak_mib": round(kilobytes / 1024, 1),
            "seconds": round(time.monotonic() - start, 1),
            "file_mib": round(target.stat().st_size / 2**20, 1),
        }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description="Measure the host memory of upscaling and print a line of JSON for each case.",
    )
    parser.add_argument("--model", required=True, help="a run or weight file")
    parser.add_argument(
        "--side", nargs="+", type=int, default=SIDES, help="sides of the LR image in pixels"
    )
    parser.add_argument("--suffix", nargs="+", default=[".png"], help="suffixes of the results")
    parser.add_argument("--tile", type=int, help="tile size, as for the command")
    args = parse(parser, argv)
    options = [f"--tile={args.tile}"] if args.tile else []
    for suffix in args.suffix:
        for side in args.side:
            print(json.dumps(measure(args.model, side, side, suffix, options)), flush=True)


if __name__ == "__main__":
    run_command(main)
