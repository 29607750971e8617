"""Tells when a checkpoint is due by the clock, in all processes after the same step."""

import time

from esrgan_jax import distributed


class SaveClock:
    """Counts the time since the last checkpoint of a stage.

    The clock of process 0 decides, and it names the step that all save after.

    Args:
        stage: The stage's name.
        minutes: The time between two checkpoints; 0: none is due by the clock.
    """

    def __init__(self, stage: str, minutes: float) -> None:
        self._key, self._seconds = f"save/{stage}", 60 * minutes
        self._last, self._named = time.monotonic(), 0

    def due(self, step: int) -> bool:
        """Returns whether to save after a step; the same in all processes.

        Call it after the start of every step, when the one before is complete.
        """
        if not self._seconds:
            return False
        late = time.monotonic() - self._last >= self._seconds
        if distributed.place()[1] == 1:
            return late
        # All know the step in time, see `StopRequest.after`. When another one is named, the one
        # before is saved, so all have read it.
        if late and self._named < step and distributed.first():
            self._named = step + 2
            distributed.put(f"{self._key}/after", str(self._named))
        return distributed.read(self._key).get("after") == str(step)

    def saved(self) -> None:
        """Starts to count again."""
        self._last = time.monotonic()
