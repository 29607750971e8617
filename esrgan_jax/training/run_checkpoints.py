"""The checkpoints of a run (Orbax v1): saves them in the background and restores them.

They are in `STAGE/checkpoints/STEP`. Each has the train state, the position in the data, the
config, the names and sizes of the training images, and checksums.
"""

import contextlib
import json
import shutil
import sys
from collections.abc import Generator, Mapping
from typing import Any, Self

import jax
import numpy as np
from etils import epath
from orbax.checkpoint import v1 as ocp

from esrgan_jax import bucket, checksums, distributed, orbax_setup
from esrgan_jax.checkpoint import FOLDER, saved_steps
from esrgan_jax.checksums import DamagedError
from esrgan_jax.data import pipeline
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import bytes_text, no_space, write_error
from esrgan_jax.orbax_setup import (
    PATIENCE,
    cause_of,
    finish,
    forget_failures,
    orbax_context,
    plain_file,
    reason_of,
)
from esrgan_jax.sharding import local
from esrgan_jax.training import processes
from esrgan_jax.training.preservation import newest_and_best
from esrgan_jax.training.saved_step import accept, load_state, set_aside
from esrgan_jax.training.train_state import TrainState


class RunCheckpoints:
    """The checkpoints of a stage: the newest `keep` and the best by a score are kept.

    As a context manager, it waits at the end for a save in the background.

    Args:
        stage: The stage's folder, which has the stage's name.
        config: The run's config as plain values.
        images: The training images as `data.changed.fingerprint` returns them.
        keep: How many of the newest are kept.
        best: The score of the best one, a name of `evaluation.metrics.METRICS`.
    """

    def __init__(
        self,
        stage: epath.Path,
        config: Mapping[str, object],
        images: Mapping[str, Any],
        keep: int,
        best: str = "psnr_y",
    ):
        self.stage, self.folder = stage, bucket.absolute(stage / FOLDER)
        self._config = json.loads(json.dumps(config))
        self._images, self._keep, self._best = images, keep, best
        self._checkpointer: ocp.training.Checkpointer | None = None
        self._saving: Any = None  # step and response of a save in the background

    def check(self) -> None:
        """Checks that this config can continue from the newest checkpoint with a readable config.

        Raises:
            InputError: It cannot. The message names the settings or images that differ.
        """
        for step in saved_steps(self.stage):
            with contextlib.suppress(DamagedError):
                accept(self.folder / str(step), self._config, self._images)
                return

    def restore(self, target: TrainState, data: Any) -> TrainState | None:
        """Restores the newest undamaged checkpoint, and sets `data` to its position.

        Newer checkpoints, which are damaged, are renamed and reported on stderr.

        Args:
            target: The state's tree of `jax.ShapeDtypeStruct`, with shardings.
            data: A fresh Grain iterator, changed in place.

        Returns:
            The state with the shardings of `target`; None if there is no checkpoint.

        Raises:
            InputError: It does not fit the config or the images, or all checkpoints are damaged.
            RunError: They cannot be read for another reason, or only by some of the processes, or
                the folder cannot be written.
        """
        state, damaged, restored = None, [], 0
        for step in saved_steps(self.stage):
            try:
                state, restored = self._load(self.folder / str(step), target, data), step
                break
            except DamagedError as error:
                damaged.append(error)
        read = distributed.gather([restored, orbax_setup.loads])
        if read.count(read[0]) < len(read):
            steps = ", ".join(str(step) for step, _ in read)
            raise RunError(
                f"{self.folder}: not all processes could read the same checkpoints (the newest, in "
                f"the order of the processes: {steps}; 0 is none). Do all see the same folder? The "
                "same command tries again"
            )
        if damaged and state is None:
            reasons = "; ".join(f"{error.step.name} ({error.reason})" for error in damaged)
            raise InputError(
                f"{self.folder}: all checkpoints are damaged, and nothing was changed: {reasons}. "
                "Restore one from a copy, or move the folder away to start the stage again"
            )
        for step in saved_steps(self.stage):  # Orbax reads the scores of all
            try:
                plain_file(self.folder / str(step), "metrics", "metrics")
            except DamagedError as error:
                if step not in [int(known.step.name) for known in damaged]:
                    damaged.append(error)
        for error in damaged if distributed.first() else ():
            set_aside(error)
        distributed.wait_for_all()  # they are renamed
        self._open()
        return state

    def newest_state(self, target: TrainState) -> TrainState:
        """Restores the state of the newest checkpoint, without its data and checks of settings.

        Raises:
            InputError: Its arrays have other shapes than `target`.
            DamagedError: It is damaged.
        """
        step = self.folder / str(saved_steps(self.stage)[0])
        return load_state(step, checksums.read(step), target)

    def check_room(self, state: TrainState) -> None:
        """Raises RunError if a checkpoint does not fit on the disk; call it before the first step.

        Only sign and exponent of trained float32 values can be compressed: about half remains.
        """
        if bucket.is_bucket(self.stage):
            return
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) // 2
        place = next(path for path in (self.stage, *self.stage.parents) if path.is_dir())
        free = shutil.disk_usage(place).free
        if size > free:
            raise RunError(
                f"{self.folder}: a checkpoint takes at least {bytes_text(size)}, and "
                f"{bytes_text(free)} are free in {place}; make room, or choose another --workdir"
            )

    def save(self, state: TrainState, data: Any, scores: Mapping[str, float] | None = None) -> None:
        """Saves a checkpoint in the background; the state may be donated at once.

        Args:
            state: The train state.
            data: The Grain iterator that made its batches.
            scores: The validation scores at this step by name, if any.

        Raises:
            RunError: This save or the previous one failed; earlier checkpoints stay.
        """
        self.wait()
        step = int(state.step)
        if distributed.gather(step in saved_steps(self.stage))[0]:
            return
        items = {"config": self._config, "pictures": self._images}
        metrics: Any = dict(scores) if scores else None
        plain = items | {"data": data.get_state(), "metrics": metrics}
        first = distributed.first()  # it alone writes the checksums

        def host(leaf: jax.Array) -> np.ndarray | None:
            array = local(leaf)  # all processes take part
            return np.asarray(array) if first else None

        arrays = jax.tree.map(host, state)
        sums = checksums.record(arrays, plain, processes.numbers()) if first else None
        forget_failures()
        with self._saves(step):
            # Forced, since Orbax's own policy would skip a save while another is in progress.
            response = self._open().save_checkpointables_async(
                step,
                {"state": state, "data": data, **items},
                force=True,
                metrics=metrics,
                custom_metadata=sums,
            )
        self._saving = step, response

    def wait(self) -> None:
        """Waits until the current save is complete, and closes its thread and files."""
        saving, self._saving = self._saving, None
        if saving is not None:
            step, response = saving
            with self._saves(step):
                finish(response)

    def _open(self) -> ocp.training.Checkpointer:
        if self._checkpointer is None:
            try:
                with bucket.reached(self.folder):
                    self._checkpointer = ocp.training.Checkpointer(
                        self.folder,
                        context=orbax_context(),
                        preservation_policy=newest_and_best(self._keep, self._best),
                        cleanup_tmp_directories=True,
                    )
            except OSError as error:
                raise write_error(self.folder, error) from error
        return self._checkpointer

    @contextlib.contextmanager
    def _saves(self, step: int) -> Generator[None]:
        try:
            yield
        except RunError:
            raise
        except Exception as error:  # Orbax, TensorStore and the system raise many kinds
            kept = saved_steps(self.stage)
            before = f"the one of step {kept[0]} is there" if kept else "there is none before"
            cause = cause_of(error)
            reason = no_space(self.folder, cause) or reason_of(cause)
            raise RunError(
                f"{self.folder}: checkpoint {step} could not be saved, {before}: {reason}"
            ) from error

    def _load(self, step: epath.Path, target: TrainState, data: Any) -> TrainState:
        sums = accept(step, self._config, self._images, report=True)
        state = load_state(step, sums, target)
        position = plain_file(step, "data", "process_0-of-*.json")
        checksums.verify_item(step, sums, "data", position)
        checksums.verify_item(step, sums, "metrics", plain_file(step, "metrics", "metrics"))
        try:
            data.set_state(pipeline.continued_state(position, data.get_state()))
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise DamagedError(step, "its data cannot be read") from error
        processes.report_others(step, (sums or {}).get("saved_by"))
        return state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None and jax.process_count() > 1:
            # The others may never come to the end of this save, or to `close`.
            with contextlib.suppress(Exception):
                if self._saving is not None:
                    self._saving[1].result(PATIENCE)
            return
        try:
            self.wait()
        except RunError as error:
            if kind is None:
                raise
            print(error, file=sys.stderr)  # in addition to the exception that ends the run
        finally:
            with contextlib.suppress(Exception):  # it raises the failure of a save again
                if self._checkpointer is not None:
                    self._checkpointer.close()
