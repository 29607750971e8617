"""Faults of runs of two real processes, started by the command line: all end, and all continue."""

import pytest

from configs import demo
from esrgan_jax.errors import TRY_AGAIN, InputError
from esrgan_jax.training.loop import train_and_evaluate
from esrgan_jax.training.run_checkpoints import saved_steps
from tests import processes


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, object]:
    """Returns the settings of runs of the PSNR stage, without validation."""
    folder = tmp_path_factory.mktemp("photographs")
    processes.write_photographs(folder)
    return processes.TINY | {"data.train": folder, "stage": "psnr"}


SIGNALLED = """
import os, signal
from tests.processes import after_step
after_step(1, 5, lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


def test_two_processes_save_by_the_clock_and_ask_to_be_requeued(settings, tmp_path):
    """The clock is always late, so process 0 names a step two steps after each save."""
    workdir, often = tmp_path / "run", {"checkpoint_minutes": 1e-9, "keep": 9}
    flags = settings | often | {"psnr.steps": 20, "checkpoint_every": 100, "eval_every": 100}
    started = processes.start(workdir, flags, 2, before=SIGNALLED, flags=["--requeue"])
    ended = processes.finish(started)
    assert [process.code for process in ended] == [TRY_AGAIN] * 2, ended
    saved = sorted(saved_steps(workdir / "psnr"))
    assert saved[:2] == [3, 6]
    assert f"stopped after step {saved[-1]} of the psnr stage" in ended[0].printed
    assert "error" not in ended[0].printed + ended[1].printed


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "s3://bucket/run"])
def test_a_bucket_is_refused_and_no_folder_has_its_name(workdir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"--workdir={workdir}: a bucket cannot be trained in"):
        train_and_evaluate(demo.get_config(), workdir)
    assert not list(tmp_path.iterdir())
