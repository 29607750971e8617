"""Whole runs of a tiny network: both stages, exact resuming after stops, and wrong settings."""

import copy
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import demo
from esrgan_jax import checkpoint
from esrgan_jax.checkpoint import find_checkpoint, load_generator
from esrgan_jax.data import sources
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.image_file import write_image
from esrgan_jax.training import data_wait, loop, validation
from esrgan_jax.training.loop import train_and_evaluate
from esrgan_jax.training.stopping import RunStopped
from esrgan_jax.training.train_state import TrainState
from tests import processes
from tools import convert_discriminator

TINY = {
    "stage": "both",
    "degradation.function": "tests.degradations:blurred",
    "degradation.margin": 8,
    "gan.unsharp": ("perceptual",),
    "generator.num_blocks": 1,
    "generator.num_features": 4,
    "generator.num_growth": 2,
    "discriminator.num_features": 2,
    "psnr.init_from": "",
    "psnr.learning_rate": 2e-3,
    "psnr.periods": (2400,),
    "psnr.steps": 6,
    "psnr.hr_patch": 16,
    "psnr.batch_size": 8,
    "psnr.ema_decay": 0.9,
    "gan.steps": 4,
    "gan.periods": (5,),
    "gan.hr_patch": 32,
    "gan.batch_size": 8,
    "gan.ema_decay": 0.9,
    "gan.perceptual_weight": 0.0,
    "log_every": 1,
    "eval_every": 4,
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for index in range(5):
        coarse = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        write_image(folder / f"{index}.png", np.kron(coarse, np.ones((8, 8, 1), np.uint8)))
    return folder


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """Shares compiled steps between runs of equal settings, which saves most of the time.

    `test_a_killed_run_...` compares with a run in a new process.
    """
    create, stages = loop.create_stage, {}

    def create_stage(config, name, vgg, mesh):
        names = ("generator", "discriminator", "degradation", name)
        sections = {k: config[k].to_dict() for k in names}
        for key in ("steps", "init_from", "d_init_from"):  # the loop reads these
            sections[name].pop(key, None)
        key = name, config.scale, config.seed, str(sections)
        if vgg is not None:
            return create(config, name, vgg, mesh)
        if key not in stages:
            stages[key] = create(copy.deepcopy(config), name, vgg, mesh)
        return stages[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "create_stage", create_stage)
        yield


@pytest.fixture
def config(photographs):
    config = demo.get_config()
    config.update_from_flattened_dict(TINY)
    config.data.train = config.data.val = str(photographs)
    return config


@pytest.fixture(scope="module")
def watched(photographs, tmp_path_factory) -> tuple[Path, list[int]]:
    """Returns the workdir of a run that was never stopped, and numbers of arrays on the devices.

    They are those of the shape of the generator's last kernel, after the first step of each stage.
    """
    config = demo.get_config()
    config.update_from_flattened_dict(TINY)
    config.data.train = config.data.val = str(photographs)
    workdir = tmp_path_factory.mktemp("finished")
    counts = []

    def count(step, _):
        if step == 1:
            counts.append(sum(array.shape == (3, 3, 4, 3) for array in jax.live_arrays()))

    train_and_evaluate(config, str(workdir), count)
    return workdir, counts


@pytest.fixture(scope="module")
def finished(watched) -> Path:
    """Returns the workdir of a run that was never stopped."""
    return watched[0]


@pytest.fixture
def initial(monkeypatch) -> list[TrainState]:
    """Returns a list to which each stage adds its state before its first step."""
    create, states = loop.create_stage, []

    def create_stage(*arguments):
        stage = create(*arguments)

        def step(state, *rest):
            if state.step == 0:
                states.append(jax.device_get(state))
            return stage.step(state, *rest)

        return stage._replace(step=step)

    monkeypatch.setattr(loop, "create_stage", create_stage)
    return states


def start(workdir: Path, settings: dict, *program: str, **options) -> subprocess.Popen:
    """Starts a run in a new process with as many devices, so that they share compiled programs.

    `program` are the words after `python`; by default those of the command.
    """
    program = program or ("-m", "esrgan_jax.main")
    command = [sys.executable, *program, "--config=configs/demo.py"]
    command += [f"--workdir={workdir}", *(f"--config.{k}={v}" for k, v in settings.items())]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(jax.device_count())}
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], env=environment, **options)


# Of runs that no test changes.
state_of_finished = functools.cache(processes.final_state)


def copy_psnr_stage(finished: Path, workdir: Path) -> None:
    """Copies a run as it was between its stages."""
    shutil.copytree(finished / "psnr", workdir / "psnr")
    shutil.copy(finished / "config.json", workdir)


def assert_same_run(workdir: Path, expected: Path, stages: Sequence[str] = ("psnr", "gan")) -> None:
    """Asserts that two runs have identical final states, and logs but for waiting for data."""
    for stage in stages:
        texts = [(folder / stage / "metrics.jsonl").read_text() for folder in (workdir, expected)]
        logs = [[row for row in t.splitlines(True) if '"data_wait"' not in row] for t in texts]
        assert logs[0] == logs[1]
        states = processes.final_state(workdir / stage), state_of_finished(expected / stage)
        assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
        jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_run_writes_logs_checkpoints_and_its_config(finished):
    for stage, steps in (("psnr", 6), ("gan", 4)):
        rows = [
            json.loads(r) for r in (finished / stage / "metrics.jsonl").read_text().splitlines()
        ]
        losses = [row for row in rows if "l_g_pix" in row]
        assert [row["step"] for row in losses] == list(range(1, steps + 1))
        scores = [row for row in rows if "val_psnr_y" in row]
        assert [row["step"] for row in scores] == sorted({4, steps})
        (board,) = (finished / stage).glob("events.out.tfevents.*")
        assert b"data_wait_s" in board.read_bytes()
        assert find_checkpoint(finished / stage).name == str(steps)
    assert {"l_g_gan", "l_d_real", "l_d_fake", "out_d_real", "out_d_fake", "lr_g", "lr_d"} < set(
        losses[0]
    )
    recorded = json.loads((finished / "config.json").read_text())
    assert recorded["psnr"]["steps"] == 6
    kept = sorted(int(p.name) for p in (finished / "psnr" / "checkpoints").iterdir())
    assert kept == [2, 4, 6]


def test_the_state_of_the_psnr_stage_does_not_stay_on_the_devices(watched):
    _, (in_psnr, in_gan) = watched
    assert 0 < in_gan <= in_psnr


def test_a_run_in_a_thread_returns_its_state_and_calls_the_callback(config, finished, tmp_path):
    """It equals a run in the main thread, and running it again returns the same state."""
    config.stage = "psnr"
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    calls = []

    def callback(step, metrics):
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
        calls.append((step, metrics))

    with ThreadPoolExecutor(1) as pool:
        state = pool.submit(train_and_evaluate, config, str(tmp_path), callback).result()
    rows = [json.loads(r) for r in (finished / "psnr" / "metrics.jsonl").read_text().splitlines()]
    keys = [("step", *metrics) for _, metrics in calls]
    assert [{"step": step, **metrics} for step, metrics in calls] == [
        {key: row[key] for key in keys[index]} for index, row in enumerate(rows)
    ]
    assert [step for step, metrics in calls if "val_psnr_y" in metrics] == [4, 6]
    assert isinstance(state, TrainState)
    expected = state_of_finished(finished / "psnr")
    jax.tree.map(
        np.testing.assert_array_equal, state.generator.params, expected["generator"]["params"]
    )
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, expected["ema_params"])
    assert int(state.step) == 6

    again = train_and_evaluate(config, str(tmp_path), callback)
    jax.tree.map(np.testing.assert_array_equal, again, state)
    assert len(calls) == 8


def test_a_step_starts_before_the_metrics_of_the_previous_step_are_fetched(
    config, tmp_path, monkeypatch
):
    """Each step has one transfer of metrics, and devices never wait for the host."""
    config.stage, config.psnr.steps, config.eval_every, config.checkpoint_every = "psnr", 3, 9, 9
    create, fetch, events = loop.create_stage, jax.device_get, []

    class OnDevice:
        """An array that only `jax.device_get` can read."""

        def __init__(self, array, step):
            self.array, self.step = array, step

    def create_stage(*args):
        stage = create(*args)

        def step(*args):
            events.append("step")
            state, metrics = stage.step(*args)
            count = events.count("step")
            return state, {name: OnDevice(x, count) for name, x in metrics.items()}

        return stage._replace(step=step)

    def device_get(tree):
        leaves = jax.tree.leaves(tree)
        if not isinstance(leaves[0], OnDevice):
            return fetch(tree)
        events.append(f"values of {leaves[0].step}")
        return fetch(jax.tree.map(lambda x: x.array, tree))

    monkeypatch.setattr(loop, "create_stage", create_stage)
    monkeypatch.setattr(jax, "device_get", device_get)
    train_and_evaluate(config, str(tmp_path))
    assert events == ["step", "step", "values of 1", "step", "values of 2", "values of 3"]


def test_the_gan_stage_starts_from_the_averaged_psnr_generator(finished, config, tmp_path, initial):
    config.gan.steps = 1
    config.stage = "gan"
    config.gan.init_from = str(finished / "psnr")
    train_and_evaluate(config, str(tmp_path))
    _, psnr = load_generator(finished / "psnr")
    (state,) = initial
    jax.tree.map(np.testing.assert_array_equal, psnr["params"], state.generator.params)


@pytest.mark.parametrize("gan_done", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_training_recovers_from_a_damaged_last_psnr_checkpoint(
    config, finished, tmp_path, capfd, gan_done
):
    """Both stages end the same, whether the GAN stage is finished or has not started."""
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    if not gan_done:
        shutil.rmtree(workdir / "gan")
    newest = find_checkpoint(workdir / "psnr")
    largest = max(newest.rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-8])
    train_and_evaluate(config, str(workdir))
    assert_same_run(workdir, finished)
    printed = capfd.readouterr()
    assert "psnr/checkpoints/6: is damaged" in printed.err
    assert ("gan: finished at step 4" in printed.out) == gan_done


def test_the_gan_stage_starts_from_a_given_discriminator(
    finished, config, tmp_path, monkeypatch, initial
):
    """The source is a run or a file converted from it, and is read only once."""
    reads = []
    for load in (checkpoint.load_generator, checkpoint.load_discriminator):

        def counted(*args, load=load, **options):
            reads.append(load.__name__)
            return load(*args, **options)

        monkeypatch.setattr(checkpoint, load.__name__, counted)
    convert_discriminator.main([str(finished), str(tmp_path / "net_d.pth")])
    config.stage = "gan"
    config.gan.steps = 1
    config.gan.init_from = str(finished)
    expected = state_of_finished(finished / "gan")["discriminator"]["params"]
    for source in (finished / "gan", tmp_path / "net_d.pth"):
        config.gan.d_init_from = str(source)
        workdir = tmp_path / f"from_{source.name}"
        reads.clear()
        train_and_evaluate(config, str(workdir))
        assert reads == ["load_generator", "load_discriminator"]
        found = initial.pop().discriminator
        jax.tree.map(np.testing.assert_array_equal, found.params, expected)

    config.gan.d_init_from = str(finished / "psnr")
    with pytest.raises(InputError, match="has no discriminator"):
        train_and_evaluate(config, str(tmp_path / "refused"))
    config.gan.d_init_from = str(tmp_path / "net_d.pth")
    config.gan.hr_patch = 64
    with pytest.raises(InputError, match="its hr_patch is 32, the config's 64"):
        train_and_evaluate(config, str(tmp_path / "refused"))


@pytest.mark.parametrize(
    ("number", "stage", "step"),
    [
        pytest.param(signal.SIGTERM, "psnr", 3, marks=pytest.mark.slow),
        (signal.SIGINT, "gan", 1),
    ],
)
def test_a_run_stopped_by_a_signal_resumes_exactly(
    config, finished, tmp_path, monkeypatch, stage, step, number
):
    finite, before = loop.check_finite, signal.getsignal(number)
    if stage == "gan":
        copy_psnr_stage(finished, tmp_path)

    def interrupt(metrics, where, folder):
        if where == f"step {step} of the {stage} stage":
            os.kill(os.getpid(), number)
        return finite(metrics, where, folder)

    monkeypatch.setattr(loop, "check_finite", interrupt)
    config.data.num_workers = 2 if stage == "psnr" else 0
    config.data.cache = "device" if stage == "gan" else "memory"
    with pytest.raises(RunStopped, match=f"of the {stage} stage"):
        train_and_evaluate(config, str(tmp_path))
    monkeypatch.undo()
    assert signal.getsignal(number) is before
    config.data.num_workers = None  # as many as fit: none for this source
    config.data.cache = "memory"
    train_and_evaluate(config, str(tmp_path))
    assert_same_run(tmp_path, finished)


def test_a_run_that_waits_for_data_says_so(config, tmp_path, monkeypatch, capfd):
    """Once on the terminal, and in the log each time that it logs."""
    read = sources.ImageFolder.__getitem__

    def slow(folder, index):
        time.sleep(0.02)
        return read(folder, index)

    monkeypatch.setattr(sources.ImageFolder, "__getitem__", slow)
    monkeypatch.setattr(data_wait, "SECONDS", 0.1)
    config.stage, config.data.num_threads = "psnr", 1
    config.psnr.steps = 16  # the first use batches that were made while the step compiled
    config.eval_every = config.checkpoint_every = 100
    train_and_evaluate(config, str(tmp_path))
    lines = (tmp_path / "psnr" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    told = [row for row in rows if "data_wait" in row]
    assert len(told) >= 2
    assert all(0.1 < row["data_wait"] <= 1 for row in told)
    err = capfd.readouterr().err
    assert err.count("the devices wait for data") == 1
    assert f"psnr step {told[0]['step']}: {told[0]['warning']}" in err
    assert "--config.data.num_workers=2 (now 0)" in err


def test_a_signal_between_the_stages_is_not_lost(config, finished, tmp_path, monkeypatch):
    leave = loop.MetricWriter.__exit__

    def interrupt(writer, *exception):
        leave(writer, *exception)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop.MetricWriter, "__exit__", interrupt)
    with pytest.raises(RunStopped, match="after the psnr stage"):
        train_and_evaluate(config, str(tmp_path))
    assert not (tmp_path / "gan").exists()
    assert_same_run(tmp_path, finished, ["psnr"])  # from which other tests go on


@pytest.mark.parametrize(
    ("image", "step", "stage"),
    [pytest.param(2, 4, "psnr", marks=pytest.mark.slow), (2, 4, "gan")],
)
def test_a_validation_that_a_signal_stops_is_repeated(
    config, finished, tmp_path, monkeypatch, image, step, stage
):
    """In the middle of a stage, and after the last step of the run."""
    score, calls = validation.scores, []
    if stage == "gan":
        copy_psnr_stage(finished, tmp_path)

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == image:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(*arguments)

    monkeypatch.setattr(validation, "scores", interrupt)
    with pytest.raises(RunStopped, match=f"after step {step} of the {stage} stage"):
        train_and_evaluate(config, str(tmp_path))
    assert len(calls) == image  # not all five
    monkeypatch.undo()
    train_and_evaluate(config, str(tmp_path))
    assert_same_run(tmp_path, finished)
    assert not list(tmp_path.glob("*/validation_owed"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("open_images", "while networks and images were being read"),
        ("restore_or_create", "before a step of the psnr stage"),
    ],
)
def test_a_signal_before_the_first_step_stops_the_run(
    config, tmp_path, monkeypatch, function, message
):
    whole = getattr(loop, function)

    def interrupt(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return whole(*arguments)

    monkeypatch.setattr(loop, function, interrupt)
    with pytest.raises(RunStopped, match=message) as stopped:
        train_and_evaluate(config, str(tmp_path))
    assert stopped.value.signal == signal.SIGTERM
    assert find_checkpoint(tmp_path) is None


@pytest.mark.slow
def test_two_signals_at_once_stop_a_run_without_a_traceback(photographs, tmp_path):
    """Like Ctrl-C pressed twice: both signals go to the whole process group."""
    flags = {**TINY, "data.train": photographs, "psnr.steps": 2000, "data.num_workers": 2}
    flags |= {"checkpoint_every": 5, "stage": "psnr"}
    process = start(tmp_path, flags, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while find_checkpoint(tmp_path) is None:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.15)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    for word in ("Traceback", "resource_tracker", "leaked", "Error"):
        assert word not in err
    assert "SIGINT: saving after this step" in err
    assert "SIGINT: stopping already, please wait" in err
    step = int(find_checkpoint(tmp_path).name)
    assert f"stopped after step {step} of the psnr stage" in err
    load_generator(tmp_path)


def test_the_gan_stage_resumes_without_the_psnr_stage(config, finished, tmp_path):
    shutil.copytree(finished / "gan", tmp_path / "gan")
    config.stage, config.gan.steps = "gan", 5
    train_and_evaluate(config, str(tmp_path))
    assert find_checkpoint(tmp_path / "gan").name == "5"


def test_the_best_and_the_newest_checkpoint_are_kept(config, tmp_path, monkeypatch):
    scores = iter([20.0, 25.0, 22.0, 21.0])
    monkeypatch.setattr(
        loop.Validation, "run", lambda *_: ({"val_psnr_y": next(scores)}, {}), raising=True
    )
    config.stage, config.keep, config.eval_every = "psnr", 1, 2
    config.psnr.steps = 4
    train_and_evaluate(config, str(tmp_path))
    config.psnr.steps = 8  # also across a resumed run
    train_and_evaluate(config, str(tmp_path))
    kept = sorted(int(path.name) for path in (tmp_path / "psnr" / "checkpoints").iterdir())
    assert kept == [4, 8]


def test_a_killed_run_resumes_exactly(config, finished, photographs, tmp_path):
    """Kills a run in another process by kill -9 between two checkpoints, and resumes it here."""
    copy_psnr_stage(finished, tmp_path)
    script = """
import os, runpy, signal
from esrgan_jax.training import loop
finite = loop.check_finite
def killed(metrics, where, folder):
    if where == "step 3 of the gan stage":
        os.kill(os.getpid(), signal.SIGKILL)
    return finite(metrics, where, folder)
loop.check_finite = killed
runpy.run_module("esrgan_jax.main", run_name="__main__")
"""
    flags = TINY | {"data.train": photographs, "data.val": photographs}
    assert start(tmp_path, flags, "-c", script).wait() == -signal.SIGKILL
    left = find_checkpoint(tmp_path / "gan")
    assert left is None or left.name == "2"  # it is perhaps not complete
    train_and_evaluate(config, str(tmp_path))
    assert_same_run(tmp_path, finished)


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    config.psnr.learning_rate = 1e30
    with pytest.raises(RunError, match=r"step \d of the psnr stage: .*l_g_pix is (nan|inf)"):
        train_and_evaluate(config, str(tmp_path))
    saved = find_checkpoint(tmp_path / "psnr")
    if saved is not None:
        _, variables = load_generator(saved)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize("broken", [(2, 3, 5), (2, 3, 4)])
def test_steps_that_are_not_finite_are_skipped_up_to_a_number(
    config, tmp_path, monkeypatch, capsys, broken
):
    create = loop.create_stage

    def create_stage(*arguments):
        stage = create(*arguments)

        def step(state, *rest):
            number = int(state.step) + 1
            state, metrics = stage.step(state, *rest)
            if number in broken:
                metrics["grad_norm_g"] = np.float32("inf")
            return state, {**metrics, "skipped": np.float32(number in broken)}

        return stage._replace(step=step)

    monkeypatch.setattr(loop, "create_stage", create_stage)
    config.stage, config.skip_nonfinite, config.log_every = "psnr", 2, 100
    if broken[-1] == 4:
        with pytest.raises(RunError, match="step 4 of the psnr stage: grad_norm_g is inf"):
            train_and_evaluate(config, str(tmp_path))
    else:
        train_and_evaluate(config, str(tmp_path))
        rows = map(json.loads, (tmp_path / "psnr" / "metrics.jsonl").read_text().splitlines())
        skipped = {row["step"]: row["skipped"] for row in rows if "skipped" in row}
        assert skipped == {2: 1.0, 3: 1.0, 5: 1.0, 6: 0.0}
    assert "step 2 of the psnr stage: skipped, since grad_norm_g is inf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "sideways"}, "stage is 'sideways'"),
        ({"data.train": None}, "--config.data.train"),
        ({"data.train": "nowhere"}, "nowhere"),
        ({"data.val": "nowhere"}, "nowhere"),
        ({"gan.perceptual_weight": 1.0}, r"esrgan-jax convert-vgg"),
        ({"gan.perceptual_weight": 1.0, "vgg": "nothing.safetensors"}, "nothing.safetensors"),
        ({"psnr.batch_size": 3}, "psnr.batch_size is 3"),
        ({"psnr.hr_patch": 18}, "psnr.hr_patch is 18"),
        ({"gan.hr_patch": 48}, "multiple of 32"),
        ({"psnr.hr_patch": 512}, "none of 5 images"),
        ({"psnr.pixel_norm": "l3"}, "psnr.pixel_norm is 'l3'"),
        ({"psnr.schedule": "linear"}, "psnr.schedule is 'linear'"),
        ({"stage": "gan"}, "--config.gan.init_from"),
        ({"psnr.init_from": "nothing.pth"}, "nothing.pth"),
        ({"scale": 5}, "scale is 5"),
        ({"generator.in_channels": 1}, "generator.in_channels is 1 and generator.out_channels 3"),
        ({"generator.dtype": "float31"}, "float31"),
        ({"discriminator.dtype": "float31"}, "float31"),
        ({"discriminator.initializer": "he"}, "he"),
        ({"generator.initializer": "he"}, "he"),
        ({"generator.name": "edsr"}, "edsr"),
        ({"generator.name": "srresnet"}, "num_growth"),
        ({"gan.init_from": "setup.cfg"}, "setup.cfg"),
        ({"gan.d_init_from": "nothing.pth"}, "nothing.pth"),
        ({"psnr.steps": 0}, "psnr.steps is 0"),
        ({"psnr.steps": 5000}, "psnr.periods end at step 2400"),
        ({"psnr.periods": (0, 2400)}, r"psnr.periods is \(0, 2400\)"),
        ({"gan.learning_rate": -1.0}, "gan.learning_rate is -1.0"),
        ({"data.num_workers": -1}, "num_workers"),
        ({"log_every": 0}, "log_every is 0"),
    ],
)
def test_wrong_settings_are_refused_before_the_first_step(config, tmp_path, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(InputError, match=message):
        train_and_evaluate(config, str(tmp_path))
    assert not list(tmp_path.glob("*/metrics.jsonl"))


@pytest.mark.parametrize("key", ["train", "val"])
def test_a_workdir_in_a_folder_of_images_is_refused(config, photographs, key):
    config.data.train = config.data.val = str(photographs.parent / "elsewhere")
    config.data[key] = str(photographs)
    with pytest.raises(InputError, match=rf"is in data\.{key}, .*choose a workdir outside"):
        train_and_evaluate(config, str(photographs / "run"))
    assert not (photographs / "run").exists()


def test_a_generator_of_another_architecture_is_refused(config, finished, tmp_path):
    config.generator.num_features = 6
    config.psnr.init_from = str(finished / "psnr")
    with pytest.raises(InputError, match=r"not the config's generator .*rdb1/conv1/kernel"):
        train_and_evaluate(config, str(tmp_path))


def test_changed_settings_are_reported_and_applied_or_refused(config, tmp_path, capsys):
    config.stage = "psnr"
    config.psnr.steps = 2
    train_and_evaluate(config, str(tmp_path))
    config.psnr.steps, config.psnr.learning_rate = 3, 1e-4
    train_and_evaluate(config, str(tmp_path))
    err = capsys.readouterr().err
    assert "psnr.steps 2 -> 3" in err
    assert "psnr.learning_rate 0.002 -> 0.0001" in err
    assert find_checkpoint(tmp_path).name == "3"
    before = (tmp_path / "config.json").read_text()
    config.psnr.steps, config.generator.num_features = 4, 6
    with pytest.raises(InputError, match=r"num_features was 4, is 6\. Continue with --config\.gen"):
        train_and_evaluate(config, str(tmp_path))
    assert (tmp_path / "config.json").read_text() == before  # still the config of the checkpoints
