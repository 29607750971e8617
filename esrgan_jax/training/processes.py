"""What the processes of a run agree on before the first step: one workdir, equal inputs.

Also says when a run continues on other processes or devices.
"""

import contextlib
import sys
from collections.abc import Generator, Mapping
from typing import Any

import jax
from etils import epath

from esrgan_jax import distributed, folder_lock
from esrgan_jax.bucket import is_bucket
from esrgan_jax.checksums import checksum
from esrgan_jax.errors import InputError
from esrgan_jax.training import run_config
from esrgan_jax.training.run_config import Config


@contextlib.contextmanager
def locked(folder: epath.Path) -> Generator[None]:
    """Locks a workdir for a run: process 0 does, and the others look whether they share it.

    A bucket is not locked.

    Raises:
        InputError: As `folder_lock.hold`, or the folder is not shared.
        RunError: As `folder_lock.hold`.
    """
    if is_bucket(folder):  # which has no locks
        yield
        return
    first = distributed.first()
    with folder_lock.hold(folder) if first else contextlib.nullcontext():
        distributed.wait_for_all()  # process 0 has locked it
        if not first:
            folder_lock.check_shared(folder)
        yield


def check_equal(config: Config, images: Mapping[str, Any]) -> None:
    """Raises InputError if the processes of a run were not started alike.

    Args:
        config: The run's config.
        images: The training images as `data.changed.fingerprint` returns them.
    """
    if jax.process_count() == 1:
        return
    if distributed.client() is None:
        raise InputError(
            f"{jax.process_count()} processes share the devices and do not know each other: train "
            "by esrgan_jax.main, or call jax.distributed.initialize first"
        )
    mine = {
        "another config": checksum(run_config.to_json(config)),
        "other training images": images["sha256"],
        "another number of devices": jax.local_device_count(),
        "another version of JAX": jax.__version__,
    }
    found = distributed.gather(mine)
    for index, theirs in enumerate(found):
        if differing := [what for what, value in theirs.items() if value != found[0][what]]:
            raise InputError(
                f"process {index} has {differing[0]} than process 0: start all alike, on equal "
                "machines that see the same files"
            )


def numbers() -> dict[str, int]:
    """Returns {"processes", "devices"}, how many there are in all; rounding depends on them."""
    return {"processes": jax.process_count(), "devices": jax.device_count()}


def report_others(step: epath.Path, saved_by: Mapping[str, int] | None) -> None:
    """Prints a line if a checkpoint was saved by other `numbers`; None: it does not know them."""
    if saved_by not in (None, numbers()) and distributed.first():
        print(
            f"{step}: was saved by {_counted(saved_by)}, and {_counted(numbers())} continue: with "
            "the same images, and only rounding differs",
            file=sys.stderr,
        )


def _counted(count: Mapping[str, int]) -> str:
    processes, devices = count["processes"], count["devices"]
    several = "es" if processes > 1 else "", "s" if devices > 1 else ""
    return f"{processes} process{several[0]} with {devices} device{several[1]} in all"
