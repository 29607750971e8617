"""Metrics of a run: lines of JSON, TensorBoard events, resuming, and write errors."""

import contextlib
import errno
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esrgan_jax.errors import RunError
from esrgan_jax.images.image_file import read_image
from esrgan_jax.training import metric_writer
from esrgan_jax.training.metric_writer import JSONL, MetricWriter

# protobuf creates its classes at run time.
Event: Any = metric_writer.event_pb2.Event  # pyright: ignore[reportAttributeAccessIssue]
START = 1  # SessionLog.SessionStatus.START


def test_pytorch_is_not_imported_but_can_be_afterwards(tmp_path):
    (tmp_path / "torch.py").write_text("print('torch')")
    code = "import esrgan_jax.training.metric_writer; print('then'); import torch"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.split() == ["then", "torch"]


def write(folder, first, last):
    with MetricWriter(folder, first) as writer:
        for step in range(first + 1, last + 1):
            writer.scalars(step, {"l_g": 1 / step, "lr_g": 1e-4})


def events(folder):
    """Yields all events of a folder; a record is length (8 bytes), checksum (4), data, checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def test_every_step_is_one_line_of_json(tmp_path):
    folder = tmp_path / "run" / "psnr"
    write(folder, 0, 3)
    lines = (folder / JSONL).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": step, "l_g": 1 / step, "lr_g": 1e-4} for step in (1, 2, 3)
    ]
    assert lines[0].startswith('{"step": 1, "l_g": ')
    assert [path.name for path in folder.glob("metrics*")] == [JSONL]


def test_lines_are_written_immediately(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        writer.scalars(1, {"l_g": 0.5})
        assert (tmp_path / JSONL).read_text() == '{"step": 1, "l_g": 0.5}\n'


@pytest.mark.parametrize("reached", [4, 7])
def test_a_resumed_run_leaves_the_lines_of_one_never_stopped(tmp_path, reached):
    write(tmp_path / "never_stopped", 0, 9)
    write(tmp_path / "stopped", 0, reached)  # its last checkpoint is of step 4
    write(tmp_path / "stopped", 4, 9)
    expected = (tmp_path / "never_stopped" / JSONL).read_text()
    assert (tmp_path / "stopped" / JSONL).read_text() == expected


def test_a_truncated_last_line_is_dropped(tmp_path):
    write(tmp_path, 0, 3)
    path = tmp_path / JSONL
    whole = path.read_text()
    for cut in (whole[:-1], whole[:-9], whole + '{"step": 4, "l_'):
        path.write_text(cut)
        MetricWriter(tmp_path, 5).__exit__()
        kept = whole.splitlines(True)[: 3 if cut.startswith(whole) else 2]
        assert path.read_text() == "".join(kept)


@pytest.mark.parametrize(
    "damage",
    [b"\0" * 50 + b"\n", b'"l_g": 0.5}\n', b"\xff\xfe\n", b"\n", b"7\n", b"{}\n", b"\0" * 9],
)
def test_lines_damaged_by_a_power_failure_are_dropped(tmp_path, damage):
    write(tmp_path, 0, 3)
    path = tmp_path / JSONL
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join([*lines[:2], damage, lines[2]]))
    MetricWriter(tmp_path, 5).__exit__()
    whole = lines[:2] if damage[-1:] != b"\n" else lines
    assert path.read_bytes().splitlines(True) == whole
    write(tmp_path, 5, 6)


def test_starting_from_step_0_removes_old_lines(tmp_path):
    write(tmp_path, 0, 3)
    MetricWriter(tmp_path, 0).__exit__()
    assert (tmp_path / JSONL).read_text() == ""


def test_values_that_are_not_finite_are_null(tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        writer.scalars(1, {"l_g": math.nan, "l_d": math.inf})
    write(tmp_path, 1, 2)
    first, second = map(json.loads, (tmp_path / JSONL).read_text().splitlines())
    assert first == {"step": 1, "l_g": None, "l_d": None}
    assert second["step"] == 2


def test_tensorboard_gets_scalars_plots_and_images(tmp_path):
    array = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    with MetricWriter(tmp_path, 0) as writer:
        writer.scalars(10, {"l_g": 0.25})
        writer.plot(10, {"images_per_second": 3.0})
        writer.image(10, "baby.jpg", array)
    values = {
        value.tag: (event.step, value)
        for event in events(tmp_path)
        for value in event.summary.value
    }
    assert set(values) == {"l_g", "images_per_second", "baby.jpg"}
    assert {step for step, _ in values.values()} == {10}
    assert values["l_g"][1].simple_value == 0.25
    assert values["images_per_second"][1].simple_value == 3
    image = values["baby.jpg"][1].image
    assert (image.height, image.width, image.colorspace) == (4, 6, 3)
    np.testing.assert_array_equal(read_image(tmp_path / "samples" / "10" / "baby.png"), array)
    assert "images_per_second" not in (tmp_path / JSONL).read_text()


def test_a_resumed_run_marks_repeated_steps_for_tensorboard(tmp_path):
    write(tmp_path, 0, 7)
    write(tmp_path, 4, 5)
    starts = [event.step for event in events(tmp_path)
              if event.session_log.status == START]  # fmt: skip
    assert starts == [5]


def test_a_writer_starts_no_thread(tmp_path):
    before = threading.active_count()
    with MetricWriter(tmp_path, 0) as writer:
        writer.scalars(1, {"l_g": 0.5})
        assert threading.active_count() == before


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")


@contextlib.contextmanager
def full_disk(mode):
    """Opens /dev/full, and closes it although what it has buffered cannot be written."""
    file = Path("/dev/full").open(mode)  # noqa: SIM115
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.close()


@needs_full
def test_a_full_disk_is_an_error(tmp_path):
    """The file of lines is replaced by /dev/full."""
    (tmp_path / "run").mkdir()
    writer = MetricWriter(tmp_path / "run", 0)
    writer.file.close()
    message = r"run: could not be written: no space left on the disk, \S+ .iB are free in \S+run; m"
    with full_disk("w") as writer.file, pytest.raises(RunError, match=message), writer:
        writer.scalars(1, {"l_g": 0.5})  # closing fails too, and adds no second error


@needs_full
def test_a_full_disk_under_tensorboard_is_an_error(tmp_path, monkeypatch):
    """Its file is replaced by /dev/full; the error comes at a flush, at the latest at the end."""
    for flush, steps in ((0.0, 1), (1e9, 500), (1e9, 1)):
        monkeypatch.setattr(metric_writer, "FLUSH", flush)
        writer = MetricWriter(tmp_path, 0)
        records = writer.board._py_recordio_writer
        records._writer.close()
        full = pytest.raises(RunError, match="no space left on the disk")
        with full_disk("wb") as records._writer, full, writer:
            for step in range(1, steps + 1):
                writer.plot(step, {"l_g": 0.5})


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EFBIG]
)
def test_every_failed_write_is_an_error_with_its_reason(tmp_path, number, monkeypatch):
    def write(_):
        raise OSError(number, os.strerror(number))

    with MetricWriter(tmp_path, 0) as writer:
        monkeypatch.setattr(writer.file, "write", write, raising=False)
        reason = "your quota" if number == errno.EDQUOT else os.strerror(number)
        with pytest.raises(RunError, match=f"{tmp_path}: could not be written: {reason}"):
            writer.scalars(1, {"l_g": 0.5})


def test_a_removed_folder_is_an_error(tmp_path):
    folder = tmp_path / "run"
    with MetricWriter(folder, 0) as writer:
        writer.scalars(1, {"l_g": 0.5})
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        with pytest.raises(RunError, match=r"run/metrics.jsonl: was removed while"):
            writer.scalars(2, {"l_g": 0.5})
    folder.write_text("")
    with pytest.raises(RunError, match=r"run: could not be written: File exists"):
        MetricWriter(folder, 0)
