"""What a run tells: one JSON line for each logged step, and the same in TensorBoard."""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from tensorboardX import SummaryWriter

from esrgan_jax.files import replacing

JSONL = "metrics.jsonl"


def read_lines(path: Path, last: float = math.inf) -> list[str]:
    """The whole lines of a run's file up to the step `last`; none where there is no file."""
    lines = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines(True):
            # Where the power failed a line may be cut or be zeros: there is nothing to keep.
            with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                if line.endswith("\n") and json.loads(line)["step"] <= last:
                    lines.append(line)
    return lines


class MetricWriter:
    """Writes scalars and pictures of a stage into its folder.

    Args:
        folder: Holds `metrics.jsonl` and the TensorBoard files.
        step: The step that the run goes on from. What an earlier run wrote behind it is dropped,
            so that a resumed run leaves the same lines as one never stopped.
    """

    def __init__(self, folder: str | os.PathLike, step: int):
        self.path = Path(folder) / JSONL
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = "".join(read_lines(self.path, step))
        with replacing(self.path) as partial:
            partial.write_text(kept)
        self.file = self.path.open("a")
        self.board = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line {"step": …, name: value, …}, and a point in every plot."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        self.plot(step, values)

    def plot(self, step: int, values: Mapping[str, float]) -> None:
        """Into TensorBoard alone: rates, which no two runs share."""
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """(H, W, 3) uint8 into TensorBoard."""
        self.board.add_image(name, image, step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        self.board.close()
