"""Checks and reads one checkpoint of a run, and renames it if it is damaged.

`run_checkpoints` reads these in order, newest first.
"""

import sys
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from esrgan_jax import bucket, checksums, distributed
from esrgan_jax.checksums import DamagedError
from esrgan_jax.data import changed
from esrgan_jax.errors import InputError, listed
from esrgan_jax.files import write_error
from esrgan_jax.orbax_setup import load_items
from esrgan_jax.sharding import place
from esrgan_jax.training.metric_writer import JSONL, append_line
from esrgan_jax.training.run_config import refused_changes
from esrgan_jax.training.train_state import TrainState


def accept(
    step: epath.Path, config: Mapping[str, Any], images: Mapping[str, Any], report: bool = False
) -> dict[str, Any] | None:
    """Checks that a config and images can continue a checkpoint, and returns its checksums.

    Args:
        step: STAGE/checkpoints/STEP.
        config: The run's config as plain values.
        images: The training images as `data.changed.fingerprint` returns them.
        report: Whether changed images that are accepted are reported on stderr.

    Raises:
        InputError: They cannot. The message names the settings or images that differ.
        DamagedError: The checkpoint's config or list of images is damaged.
    """
    sums, stage = checksums.read(step), step.parent.parent
    saved = load_items(step, {"config": None})["config"]
    checksums.verify_item(step, sums, "config", saved)
    if refused := refused_changes(saved, config, stage.name):
        if distributed.first():
            append_line(stage / JSONL, {"step": int(step.name), "refused": refused})
        changes = ", ".join(f"{key} was {old}, is {new}" for key, (old, new) in refused.items())
        flags = " ".join(f"--config.{key}={old}" for key, (old, _) in refused.items())
        raise InputError(
            f"{step}: was saved with other settings: {changes}. Continue with {flags}, or "
            "choose another --workdir"
        )
    if sums is None or "pictures" not in sums["items"]:
        return sums  # saved by an older version
    saved = load_items(step, {"pictures": None})["pictures"]
    checksums.verify_item(step, sums, "pictures", saved)
    if differs := changed.changes(saved, images):
        if config["data"].get("changed") != "accept":
            raise InputError(
                f"{step}: the training images have changed since: {differs}. Restore "
                "them, or continue with the new ones by --config.data.changed=accept"
            )
        if report and distributed.first():
            print(f"training images changed, as accepted: {differs}", file=sys.stderr)
    return sums


def load_state(step: epath.Path, sums: dict[str, Any] | None, target: TrainState) -> TrainState:
    """Reads the train state, with the shardings of `target`.

    Args:
        step: STAGE/checkpoints/STEP.
        sums: Its checksums, as `accept` returns them.
        target: The state's tree of `jax.ShapeDtypeStruct`.

    Raises:
        InputError: Its arrays have other shapes than `target`.
        DamagedError: It is damaged.
        RunError: It cannot be read for another reason.
    """
    if sums and (other := checksums.other_shapes(sums, target)):
        raise InputError(
            f"{step}: its arrays are not those of this config: {listed(other, 3)}; choose "
            "another --workdir"
        )
    # On the host first, so that a full device does not look like damage.
    host = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), target)
    state = load_items(step, {"state": host})["state"]
    checksums.verify_arrays(step, sums, state)
    return jax.tree.map(lambda leaf, like: place(leaf, like.sharding), state, target)


def set_aside(error: DamagedError) -> None:
    """Renames a damaged checkpoint to STEP.damaged, and reports it on stderr."""
    step = error.step
    names = {path.name for path in step.parent.iterdir()}
    first = f"{step.name}.damaged"
    name = next(n for n in (first, *(f"{first}-{i}" for i in range(2, 9999))) if n not in names)
    try:
        with bucket.reached(step):
            step.rename(step.parent / name)
    except OSError as failure:
        raise write_error(step, failure) from failure
    print(
        f"{step}: is damaged ({error.reason}); renamed to {name}; the run continues "
        "from the newest undamaged one",
        file=sys.stderr,
    )
