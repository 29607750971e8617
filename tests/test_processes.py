"""Several real processes that train together, started by the command line."""

import signal

import pytest

from esrgan_jax.checkpoint import find_checkpoint
from esrgan_jax.errors import TRY_AGAIN
from tests import processes

# Process 1 gets a SIGTERM when it has computed step 2.
SIGNALLED = """
import os, signal
from tests.processes import after_step
after_step(1, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> dict[str, object]:
    """Returns the settings of the runs, whose five images are also those of the validation."""
    folder = tmp_path_factory.mktemp("photographs")
    processes.write_photographs(folder)
    return processes.TINY | {"data.train": folder, "data.val": folder}


def test_two_processes_train_as_one_does_and_stop_together(settings, tmp_path):
    """A signal to process 1 stops both after one step, and one process goes on from there.

    They find each other by the variables of SLURM.
    """
    alone, together = tmp_path / "alone", tmp_path / "together"
    settings = settings | {"stage": "psnr", "eval_every": 100, "checkpoint_every": 100}
    processes.train(alone, settings, 1, devices=2)
    started = processes.start(together, settings, 2, before=SIGNALLED, launcher="srun")
    ended = processes.finish(started)
    assert [process.code for process in ended] == [128 + signal.SIGTERM] * 2, ended
    step = int(find_checkpoint(together).name)
    assert step == 5  # the signal came while step 3 was computed
    assert f"stopped after step {step} of the psnr stage" in ended[0].printed
    assert "SIGTERM: saving after this step" in ended[1].printed
    for message in ("reading headers", "stopped after"):  # process 0 writes the messages
        assert message in ended[0].printed
        assert message not in ended[1].printed
    assert not [word for _, text in ended for word in ("Traceback", "Error") if word in text]
    (resumed,) = processes.train(together, settings, 1, devices=2)
    assert "by 2 processes with 2 devices in all, and 1 process with 2 devices" in resumed.printed
    processes.check_logged(together, alone, "psnr")


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_does_not_find_the_others_says_so(settings, tmp_path, index):
    place = [f"--coordinator=localhost:{processes.free_port()}", f"--process_id={index}"]
    before = "from esrgan_jax import distributed; distributed.JOIN_SECONDS = 2"
    started = processes.start(
        tmp_path / "run", settings, 1, before=before, flags=[*place, "--num_processes=2"]
    )
    (ended,) = processes.finish(started)
    assert ended.code == 1
    assert "error: the processes did not find each other within 2 s: start all" in ended.printed
    assert "Traceback" not in ended.printed


# A signal while the command imports a module.
EARLY = """
import os, signal, sys
from importlib.abc import MetaPathFinder
class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "{}":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("module", "flags", "code"),
    [
        ("jax", [], 128 + signal.SIGTERM),
        ("jax", ["--requeue"], TRY_AGAIN),  # the flags are not yet read
        ("esrgan_jax.training.loop", ["--requeue=true"], TRY_AGAIN),
    ],
)
def test_a_signal_before_training_has_the_exit_code_of_one_in_training(
    tmp_path, module, flags, code
):
    before = EARLY.format(module)
    started = processes.start(tmp_path / "run", {}, 1, before=before, flags=flags)
    (ended,) = processes.finish(started)
    assert ended == (code, "\nSIGTERM: stopped\n")
