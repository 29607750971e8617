"""Several real processes that train together, started by the command line."""

import signal

import jax
import pytest
from orbax.checkpoint import v1 as ocp

from esrgan_jax.checkpoint import find_checkpoint
from esrgan_jax.errors import TRY_AGAIN
from tests import processes

# Process 1 gets a SIGTERM when it has computed step 2.
SIGNALLED = """
import os, signal
from tests.processes import after_step
after_step(1, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


def test_two_processes_train_as_one_does_and_stop_together(both_stages, tmp_path):
    """A signal to process 1 stops both after one step, and one process goes on from there.

    They find each other by the variables of SLURM.
    """
    alone, together = tmp_path / "alone", tmp_path / "together"
    settings = both_stages | {
        "stage": "psnr",
        "data.val": "",
        "eval_every": 100,
        "checkpoint_every": 100,
    }
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


@pytest.mark.slow
def test_both_stages_are_equal_in_one_process_with_as_many_devices(finished, alone):
    for stage in ("psnr", "gan"):
        processes.check_same_stage(alone, finished, stage)


@pytest.mark.slow
def test_state_and_images_that_are_split_over_two_processes_train_as_copies_do(
    both_stages, finished, tmp_path
):
    """By `mesh.fsdp=2` and `data.cache=device`."""
    before = "from esrgan_jax import sharding; sharding.SMALL = 1"  # otherwise nothing is split
    settings = both_stages | {"mesh.fsdp": 2, "data.cache": "device"}
    processes.train(tmp_path / "split", settings, 2, before=before)
    for stage in ("psnr", "gan"):
        step = find_checkpoint(tmp_path / "split" / stage)
        state = ocp.metadata(step, checkpointable_name="state").metadata
        split = [x for x in jax.tree.leaves(state) if "fsdp" in x.sharding_metadata.partition_spec]
        assert len(split) > len(jax.tree.leaves(state)) / 2
        processes.check_logged(tmp_path / "split", finished, stage)


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_does_not_find_the_others_says_so(both_stages, tmp_path, index):
    place = [f"--coordinator=localhost:{processes.free_port()}", f"--process_id={index}"]
    before = "from esrgan_jax import distributed; distributed.JOIN_SECONDS = 2"
    started = processes.start(
        tmp_path / "run", both_stages, 1, before=before, flags=[*place, "--num_processes=2"]
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
