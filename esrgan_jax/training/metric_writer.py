"""Writes metrics as JSON lines and for TensorBoard, and sample images."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from etils import epath

from esrgan_jax.bucket import Mirror, is_bucket, reached
from esrgan_jax.errors import RunError
from esrgan_jax.files import finite_only, write_bytes, write_text, writing

# Where PyTorch is installed, tensorboardX imports it, which takes seconds and is of no use here.
_modules: dict[str, Any] = sys.modules
_hidden = _modules.setdefault("torch", None) is None
from tensorboardX import summary  # noqa: E402
from tensorboardX.event_file_writer import EventsWriter  # noqa: E402
from tensorboardX.proto import event_pb2  # noqa: E402

if _hidden:
    del _modules["torch"]

JSONL = "metrics.jsonl"
SAMPLES = "samples"  # the folder of sample images
FLUSH = 60.0  # seconds between writes of TensorBoard's data to the disk
# The module creates its classes at run time.
_proto: Any = event_pb2


def read_lines(path: Path, last: float = math.inf) -> list[str]:
    """Returns the complete lines of a run's file up to the step `last`; [] if there is no file."""
    lines = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines(True):
            # After a power failure a line may be cut or consist of zeros; it is dropped.
            with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
                row = json.loads(line)
                if line.endswith("\n") and row["step"] <= last and "refused" not in row:
                    lines.append(line)
    return lines


def append_line(path: epath.Path, row: Mapping[str, object]) -> None:
    """Appends a line about a refused run to an existing log; a resumed run removes it."""
    line = json.dumps(row) + "\n"
    with contextlib.suppress(OSError, RunError), reached(path):
        if is_bucket(path):
            path.write_text(path.read_text() + line)
        elif path.exists():
            with path.open("a") as file:
                file.write(line)


class MetricWriter:
    """Writes scalars and images of a stage into its folder.

    The calling thread writes everything. tensorboardX' own thread would end on a full disk, and the
    next write to its queue would block.

    Attributes:
        warned: Whether it wrote a warning.

    Args:
        folder: Folder of `metrics.jsonl` and the TensorBoard files. In a bucket, they are copied
            there by `copy` and at the end.
        step: The step that the run continues from. Later lines of an earlier run are removed, so
            that a resumed run leaves the same lines as one that never stopped.
        writes: False for processes that leave the writing to the first: nothing is written.

    Raises:
        RunError: The folder cannot be written, such as on a full disk. All methods raise it.
    """

    def __init__(self, folder: str | os.PathLike[str], step: int, writes: bool = True):
        self.warned, self._writes, self._mirror = False, writes, None
        if not writes:
            return
        if is_bucket(folder):
            self._mirror = Mirror(epath.Path(folder))
            self._mirror.fetch(JSONL)
            folder = self._mirror.folder
        self.path = Path(folder) / JSONL
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = "".join(read_lines(self.path, step))
            write_text(self.path, kept)
            self.file = self.path.open("a")
            self.board = EventsWriter(os.path.join(folder, "events"))
            self.flushed = time.monotonic()
            if step:
                start = _proto.SessionLog(status=_proto.SessionLog.START)
                self._event(step + 1, session_log=start)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line {"step": …, name: value, …}, and a point to each plot of TensorBoard.

        In the line, NaN and infinity are null.
        """
        self._line({"step": step, **values})
        self.plot(step, values)

    def warning(self, step: int, text: str, **values: float) -> None:
        """Writes one line {"step": …, name: value, …, "warning": text}."""
        self.warned = True
        self._line({"step": step, **values, "warning": text})

    def plot(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values to TensorBoard only, such as rates, which differ from run to run."""
        if not self._writes:
            return
        with self._writing():
            for name, value in values.items():
                self._event(step, summary=summary.scalar(name, value))
            if time.monotonic() - self.flushed > FLUSH:
                self.board.flush()
                self.flushed = time.monotonic()

    def image(self, step: int, name: str, array: np.ndarray) -> None:
        """Writes an image, (H, W, 3) uint8, to TensorBoard and as `samples/STEP/NAME.png`."""
        if not self._writes:
            return
        encoded = summary.image(name, array, dataformats="HWC")
        path = self.path.parent / SAMPLES / str(step) / Path(name).with_suffix(".png").name
        with self._writing():
            self._event(step, summary=encoded)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, encoded.value[0].image.encoded_image_string)

    def copy(self) -> None:
        """Copies what is new to the bucket, if the folder is in one; call it before a save."""
        if self._mirror:
            with self._writing():
                self.board.flush()
            self._mirror.copy()

    def _line(self, row: Mapping[str, object]) -> None:
        if not self._writes:
            return
        with self._writing():
            if os.fstat(self.file.fileno()).st_nlink == 0:
                raise RunError(f"{self.path}: was removed while the run wrote to it")
            self.file.write(json.dumps(finite_only(row)) + "\n")
            self.file.flush()

    def _event(self, step: int, **what: Any) -> None:
        self.board.write_event(_proto.Event(wall_time=time.time(), step=step, **what))

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *exception: object) -> None:
        if not self._writes:
            return
        try:
            with self._writing(), contextlib.closing(self.board), self.file:
                pass
            if self._mirror:
                self._mirror.copy()
        except RunError:
            if kind is None:  # otherwise the first error is raised
                raise
        finally:
            if self._mirror:
                self._mirror.close()
