"""Refuses steps whose losses are not finite."""

import math
from collections.abc import Mapping

from etils import epath

from esrgan_jax.errors import RunError
from esrgan_jax.training.run_checkpoints import saved_steps


def not_finite(values: Mapping[str, float]) -> str:
    """Names the values of a step that are not finite; "" if all are."""
    return ", ".join(f"{k} is {value}" for k, value in values.items() if not math.isfinite(value))


def check_finite(values: Mapping[str, float], where: str, folder: epath.Path) -> None:
    """Raises RunError naming the values that are not finite.

    Args:
        values: The losses, norms and rates of a step.
        where: The step, for the message.
        folder: Of the stage, whose checkpoints the message speaks of.
    """
    if broken := not_finite(values):
        saved = "No checkpoint is saved yet. "
        if saved_steps(folder):
            saved = (
                f"The checkpoints in {folder} are from before; if the newest has already "
                "diverged, move it away to continue from the one before it. "
            )
        raise RunError(
            f"{where}: {broken}. {saved}A lower learning rate, clip_norm, skip_nonfinite "
            "or another seed may get past this step"
        )
