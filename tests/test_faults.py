"""Faults of runs of two real processes, started by the command line: all end, and all continue."""

import shutil
import time
from collections.abc import Sequence

import pytest

from esrgan_jax import folder_lock
from esrgan_jax.checkpoint import find_checkpoint
from esrgan_jax.errors import TRY_AGAIN
from esrgan_jax.training.run_checkpoints import saved_steps
from tests import processes

# A lost process is noticed after 5 s instead of 40; an error waits 5 s for a save instead of 20.
SOON = """
from esrgan_jax import orbax_setup, process_watch
orbax_setup.PATIENCE, process_watch.BEAT = 5, 0.25
"""
HARM = f"{SOON}from tests.processes import after_save, after_step, before_stage, kill\n"
MINUTE = 60.0


@pytest.fixture
def settings(photographs) -> dict[str, object]:
    """Returns the settings of runs of the PSNR stage, without validation."""
    return processes.TINY | {"data.train": photographs, "stage": "psnr"}


def errors(ended: Sequence[processes.Ended]) -> list[list[str]]:
    """Returns of each process the lines of errors that it printed."""
    return [
        [line for line in process.printed.splitlines() if line.startswith("error: ")]
        for process in ended
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed", "where", "stages"),
    [
        (0, "after_step(0, 3, kill)", ("psnr",)),
        (1, "after_save(1, 4, kill)", ("psnr",)),
        (1, "before_stage(1, kill, 'gan')", ("psnr", "gan")),
    ],
)
def test_if_a_process_is_killed_the_other_ends_and_the_run_continues_bit_for_bit(
    both_stages, finished, tmp_path, killed, where, stages
):
    workdir, flags = tmp_path / "run", both_stages | {"stage": "both" if stages[1:] else "psnr"}
    if stages[1:]:
        shutil.copytree(finished / "psnr", workdir / "psnr")
    started = processes.start(workdir, flags, 2, before=HARM + where)
    started[killed].popen.wait(timeout=300)
    since = time.monotonic()
    ended = processes.finish(started)
    assert time.monotonic() - since < MINUTE
    assert ended[killed].code == -9
    code, printed = ended[1 - killed]
    assert "Traceback" not in printed
    if killed:
        line = "process 1: has not been heard of for 5 s, so the run ends; the same command conti"
        assert code == 1
        assert errors(ended)[0] == [f"error: {line}nues from the last checkpoint"], printed
    else:  # it had the coordinator: JAX ends the others
        assert code == -6, ended
        assert "coordination service" in printed
    processes.train(workdir, flags, 2)
    for stage in stages:
        processes.check_same_stage(workdir, finished, stage)


SIGNALLED = """
import os, signal
from tests.processes import after_step
after_step(1, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


@pytest.mark.slow
def test_two_processes_save_by_the_clock_and_ask_to_be_requeued(settings, tmp_path):
    """The clock is always late, so process 0 names a step two steps after each save.

    They find each other by the variables of Open MPI.
    """
    workdir, often = tmp_path / "run", {"checkpoint_minutes": 1e-9, "keep": 9}
    flags = settings | often | {"psnr.steps": 20, "checkpoint_every": 100, "eval_every": 100}
    started = processes.start(
        workdir, flags, 2, before=SIGNALLED, flags=["--requeue"], launcher="mpirun"
    )
    ended = processes.finish(started)
    assert [process.code for process in ended] == [TRY_AGAIN] * 2, ended
    saved = sorted(saved_steps(workdir / "psnr"))
    assert saved[:2] == [3, 6]
    assert f"stopped after step {saved[-1]} of the psnr stage" in ended[0].printed
    assert "error" not in ended[0].printed + ended[1].printed


@pytest.mark.slow
@pytest.mark.parametrize(("began", "count"), [(2, 2), (2, 1), (1, 3)])
def test_a_damaged_newest_checkpoint_is_left_out_by_all_processes(
    both_stages, finished, alone, tmp_path, began, count
):
    """Any number of processes goes on from the one before it, and two come to the same bits."""
    workdir = shutil.copytree({1: alone, 2: finished}[began], tmp_path / "run")
    newest = find_checkpoint(workdir / "gan")
    largest = max((f for f in newest.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    ended = processes.train(workdir, both_stages, count)
    assert "damaged" in ended[0].printed
    assert not [text for _, text in ended if "Traceback" in text]
    if count == 2:
        processes.check_same_stage(workdir, finished, "gan")
    else:
        processes.check_logged(workdir, finished, "gan")
        assert saved_steps(workdir / "gan") == saved_steps(finished / "gan")


FAILS = f"""{SOON}
from esrgan_jax.errors import InputError, RunError
from tests.processes import after_step
def fail(error):
    raise error
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failed", "error", "message", "code"),
    [
        (1, "InputError('photo.png: is damaged')", "photo.png: is damaged", 2),
        (0, "RunError('the loss is NaN')", "the loss is NaN", 1),
        (1, "ValueError('a mistake')", "ValueError: a mistake", 1),
    ],
)
def test_an_error_in_one_process_ends_all_with_its_message(
    settings, tmp_path, failed, error, message, code
):
    before = f"{FAILS}after_step({failed}, 3, lambda: fail({error}))"
    since = time.monotonic()
    ended = processes.finish(processes.start(tmp_path / "run", settings, 2, before=before))
    assert time.monotonic() - since < MINUTE
    assert [process.code for process in ended] == [code, code]
    assert message in ended[failed].printed
    assert errors(ended)[1 - failed] == [f"error: process {failed}: {message}"]
    assert "Traceback" not in ended[1 - failed].printed


FULL = f"""{SOON}
import resource
from tests.processes import after_step
def fill():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
"""


@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_if_the_disk_of_a_process_is_full_all_end_and_the_run_continues_bit_for_bit(
    both_stages, finished, tmp_path, process
):
    """Files are limited to 4 KiB from step 3 on, so the next write fails as on a full disk.

    In process 0 that is the log, while Orbax waits in a save, and in process 1 a save, whose
    remains are there when the run continues.
    """
    workdir, flags = tmp_path / "run", both_stages | {"stage": "psnr"}
    before = f"{FULL}after_step({process}, 3, fill)"
    since = time.monotonic()
    ended = processes.finish(processes.start(workdir, flags, 2, before=before))
    assert time.monotonic() - since < MINUTE
    assert [process.code for process in ended] == [1, 1]
    for lines in errors(ended):
        assert len(lines) == 1
        assert "File too large" in lines[0]
    assert "Traceback" not in ended[0].printed + ended[1].printed
    if process == 1:
        processes.train(workdir, flags, 2)
        processes.check_same_stage(workdir, finished, "psnr")


@pytest.mark.slow
def test_two_processes_refuse_changed_images_until_they_are_accepted(settings, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished / "psnr", workdir / "psnr")
    photographs = shutil.copytree(settings["data.train"], tmp_path / "photographs")
    flags = settings | {"data.train": photographs, "psnr.steps": 8}
    before = saved_steps(workdir / "psnr")
    (photographs / "3.png").write_bytes((photographs / "2.png").read_bytes())
    ended = processes.finish(processes.start(workdir, flags, 2))
    assert [process.code for process in ended] == [2, 2]
    (line,) = [line for lines in errors(ended) for line in lines]  # process 0 prints it for both
    assert "changed: 3.png. Restore them, or" in line
    assert saved_steps(workdir / "psnr") == before
    ended = processes.train(workdir, flags | {"data.changed": "accept"}, 2)
    assert "training images changed, as accepted: " in ended[0].printed


@pytest.mark.slow
def test_two_processes_do_not_train_in_the_folder_of_another_run(settings, tmp_path):
    workdir = tmp_path / "run"
    with folder_lock.hold(workdir):
        ended = processes.finish(processes.start(workdir, settings, 2))
    assert [process.code for process in ended] == [2, 2]
    assert all(len(lines) == 1 and "another run" in lines[0] for lines in errors(ended))
    assert not [text for _, text in ended if "Traceback" in text]
