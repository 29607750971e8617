"""The checkpoints of a run, by Orbax v1: saved in the background, and gone on from.

A stage keeps them in `STAGE/checkpoints/STEP`, each with the train state, the position of the data
and the config.
"""

import json
from collections.abc import Mapping
from typing import Any, Self

from etils import epath
from orbax.checkpoint import v1 as ocp

from esrgan_jax.checkpoint import FOLDER, orbax_context
from esrgan_jax.errors import InputError
from esrgan_jax.train_state import TrainState


class RunCheckpoints:
    """The checkpoints in a stage's folder: the newest `keep` and the best by PSNR stay.

    A context: what is being saved when it is left is waited for.
    """

    def __init__(self, folder: epath.Path, keep: int):
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics["psnr_y"],
            n=1,
            keep_checkpoints_without_metrics=False,
        )
        self._checkpointer = ocp.training.Checkpointer(
            (folder / FOLDER).resolve(),
            context=orbax_context(),
            # Orbax's own policies do not declare the type that its Checkpointer asks for.
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),  # pyright: ignore[reportArgumentType]
            cleanup_tmp_directories=True,
        )
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
        """
        self.wait()
        step = int(state.step)
        if self.latest == step:
            return
        items = {"state": state, "data": data, "config": json.loads(json.dumps(config))}
        metrics: Any = None if psnr_y is None else {"psnr_y": psnr_y}
        # Forced, since Orbax's own policy would skip a save while another is under way.
        self._saving = self._checkpointer.save_checkpointables_async(
            step, items, force=True, metrics=metrics
        )

    def wait(self) -> None:
        """Until what is being saved is on the disk: the thread and files of a save end here."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

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

    def __exit__(self, *exception: object) -> None:
        try:
            self.wait()
        finally:
            self._checkpointer.close()
