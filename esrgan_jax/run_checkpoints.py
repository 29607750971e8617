"""The checkpoints of a run, by Orbax v1: saved in the background, and gone on from.

A stage keeps them in `STAGE/checkpoints/STEP`, each with the train state, the position of the data
and the config.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Self

from etils import epath
from orbax.checkpoint import v1 as ocp

from esrgan_jax.checkpoint import FOLDER
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import no_space, write_error
from esrgan_jax.orbax_setup import orbax_context, reason_of
from esrgan_jax.train_state import TrainState


def steps(folder: epath.Path) -> list[int]:
    """The steps of the checkpoints in a folder, whole or damaged, the newest first."""
    if not folder.is_dir():
        return []
    return sorted(
        (int(path.name) for path in folder.iterdir() if path.name.isdigit()), reverse=True
    )


class RunCheckpoints:
    """The checkpoints in a stage's folder: the newest `keep` and the best by PSNR stay.

    A context: what is being saved when it is left is waited for.

    Raises:
        RunError: The folder cannot be written.
    """

    def __init__(self, folder: epath.Path, keep: int):
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics["psnr_y"],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self.folder = (folder / FOLDER).resolve()
        try:
            self._checkpointer = ocp.training.Checkpointer(
                self.folder,
                context=orbax_context(),
                # Orbax's own policies do not declare the type that its Checkpointer asks for.
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),  # pyright: ignore[reportArgumentType]
                cleanup_tmp_directories=True,
            )
        except OSError as error:
            raise write_error(self.folder, error) from error
        self._saving: Any = None  # the response of a save in the background

    @property
    def latest(self) -> int | None:
        """The newest step, or None."""
        newest = self._checkpointer.latest
        return None if newest is None else newest.step

    def save(
        self,
        state: TrainState,
        data: Any,
        config: Mapping[str, Any],
        psnr_y: float | None = None,
    ) -> None:
        """Saves a run at its step in the background; the state may be donated at once.

        Args:
            state: The train state.
            data: The Grain iterator that made its batches.
            config: The run's config, of plain values.
            psnr_y: The validation score at this step, if there is one.

        Raises:
            RunError: This save or the one before failed; the checkpoints from before are there.
        """
        self.wait()
        step = int(state.step)
        if self.latest == step:
            return
        items = {"state": state, "data": data, "config": json.loads(json.dumps(config))}
        metrics: Any = None if psnr_y is None else {"psnr_y": psnr_y}
        # Forced, since Orbax's own policy would skip a save while another is under way.
        with self._saves(step):
            response = self._checkpointer.save_checkpointables_async(
                step, items, force=True, metrics=metrics
            )
        self._saving = step, response

    def wait(self) -> None:
        """Until what is being saved is on the disk: the thread and files of a save end here."""
        saving, self._saving = self._saving, None
        if saving is not None:
            with self._saves(saving[0]):
                saving[1].result()

    @contextlib.contextmanager
    def _saves(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever its threads, TensorStore and the disk have raised
            kept = steps(self.folder)
            before = f"the one of step {kept[0]} is there" if kept else "there is none before"
            reason = no_space(self.folder, error) or reason_of(error)
            raise RunError(
                f"{self.folder}: checkpoint {step} could not be saved, {before}: {reason}"
            ) from error

    def restore(self, target: TrainState, data: Any) -> TrainState:
        """The newest state, placed as `target` says; `data` is brought to the same position.

        Args:
            target: The state's tree of `jax.ShapeDtypeStruct`, with shardings.
            data: A fresh Grain iterator, changed in place.
        """
        try:
            items = {"state": target, "data": data}
            return self._checkpointer.load_checkpointables(None, items)["state"]
        except (ValueError, KeyError, IndexError) as error:
            raise InputError(
                f"{self._checkpointer.directory}: the checkpoints do not fit this config. Go on "
                "with the generator, discriminator, ema_decay, clip_norm and data.num_workers that "
                "they were made with, or take another --workdir "
                f"({str(error).splitlines()[0][:200]})"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        try:
            self.wait()
        except RunError as error:
            if kind is None:
                raise
            print(error, file=sys.stderr)  # beside the one that ends the run
        finally:
            with contextlib.suppress(Exception):  # of a save that failed, once more
                self._checkpointer.close()
