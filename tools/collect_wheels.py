"""Collects the wheels for `make accelerator` on a machine without internet.

    python -m tools.collect_wheels --jax=0.11.2 ml-collections

The machine has Python 3.12 on Linux (x86-64), and JAX for its accelerator. What else the benchmarks
import is collected in build/wheels, or only the packages that are named, with their dependencies.
On the machine, `make accelerator` installs from there what is missing.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from configparser import ConfigParser
from pathlib import Path

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, RunError, listed, run_command
from esrgan_jax.files import make_folder

PYTHON = "3.12"
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 17)] + ["manylinux2014_x86_64"]
NEEDED = (
    *("absl-py", "filelock", "flax", "ml-collections"),
    *("optax", "safetensors", "scikit-image", "tqdm"),
)
# What comes with JAX. Another jaxlib would have no CUDA.
LEFT_OUT = {"jax", "jaxlib", "ml-dtypes", "numpy", "opt-einsum", "scipy"}
LARGEST = 64 * 2**20  # bytes of all wheels
REQUIREMENTS = "requirements.txt"


def collect(folder: Path, names: Sequence[str] = NEEDED, jax: str | None = None) -> list[Path]:
    """Replaces what a folder has by wheels and a requirements.txt for pip.

    Args:
        folder: The folder, which need not exist. If this fails, it is as it was.
        names: Packages of NEEDED.
        jax: The machine's version of JAX; None is the newest.

    Returns:
        The wheels.

    Raises:
        InputError: A name is not in NEEDED, this is not a clone of the repository, or the folder is
            a file or has other files.
        RunError: pip finds no fitting versions, or the wheels have more than 64 MiB.
    """
    wanted = requirements(names)
    _check_folder(folder)
    target = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp"]
    target += [f"--platform={platform}" for platform in PLATFORMS]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "report.json")
        resolve = ["install", "--dry-run", "--ignore-installed", f"--target={temporary}"]
        _pip(*resolve, f"--report={file}", *target, *wanted, f"jax=={jax}" if jax else "jax")
        found = [item["metadata"] for item in json.loads(file.read_text())["install"]]
    pinned = [f"{x['name']}=={x['version']}" for x in found if _normal(x["name"]) not in LEFT_OUT]
    parent = folder.resolve().parent
    make_folder(parent)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".wheels-") as temporary:
        _pip("download", "--no-deps", f"--dest={temporary}", *target, *pinned)
        Path(temporary, REQUIREMENTS).write_text("".join(f"{line}\n" for line in wanted))
        size = sum(wheel.stat().st_size for wheel in Path(temporary).glob("*.whl"))
        if size > LARGEST:
            mebibytes = f"{size / 2**20:.0f} MiB, more than {LARGEST / 2**20:.0f}"
            raise RunError(f"the wheels for {folder} have {mebibytes}: name only what is missing")
        folder.mkdir(exist_ok=True)
        for old in filter(_is_collected, list(folder.iterdir())):
            old.unlink()
        for new in list(Path(temporary).iterdir()):
            new.replace(folder / new.name)
    return sorted(folder.glob("*.whl"))


def requirements(names: Sequence[str]) -> list[str]:
    """Returns what setup.cfg requires of the packages; raises what `collect` raises."""
    if unknown := [name for name in names if name not in NEEDED]:
        raise InputError(f"{listed(unknown)}: choose from {', '.join(NEEDED)}")
    file = Path(__file__).parents[1] / "setup.cfg"
    if not file.is_file():
        raise InputError(f"there is no {file}: run this in a clone of the repository")
    parser = ConfigParser()
    parser.read(file)
    lines = [line.partition(";")[0] for line in parser["options"]["install_requires"].split("\n")]
    by_name = {_normal(re.split(r"[^\w.-]", line)[0]): line for line in lines}
    return [by_name[name] for name in names]


def _check_folder(folder: Path) -> None:
    """Raises InputError unless `collect` may replace all that is there."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder")
    entries = sorted(folder.iterdir()) if folder.exists() else []
    if others := [path.name for path in entries if not _is_collected(path)]:
        raise InputError(
            f"{folder}: has {listed(others)} besides wheels; give a new or an empty folder"
        )


def _is_collected(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".whl" or path.name == REQUIREMENTS)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=False)
    if done.returncode:
        raise RunError(f"pip {arguments[0]} failed; its message is above")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.collect_wheels",
        description="Collect the wheels for make accelerator on a machine without internet.",
    )
    default = Path("build/wheels")
    parser.add_argument("--output", type=path_type, default=default, help=f"default: {default}")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"of {', '.join(NEEDED)} (default: all)"
    )
    parser.add_argument("--jax", help="the machine's version of JAX (default: the newest)")
    args = parse(parser, argv)
    wheels = collect(args.output, args.names or NEEDED, args.jax)
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"{args.output}: {len(wheels)} wheels, {size:.1f} MiB")


if __name__ == "__main__":
    run_command(main)
