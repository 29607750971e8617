"""Tests of a run's checkpoints: saving, failed saves, damage, and changed configs and images."""

import errno
import gc
import json
import logging
import math
import os
import re
import resource
import shutil
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from esrgan_jax import distributed, orbax_setup, sharding
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.training.metric_writer import read_lines
from esrgan_jax.training.run_checkpoints import RunCheckpoints, saved_steps
from esrgan_jax.training.train_state import Network, TrainState


def state_at(step: int) -> TrainState:
    kernel = np.random.default_rng(step).standard_normal((3, 3, 16, 16), np.float32)
    params = {"conv": {"kernel": jnp.asarray(kernel)}}
    return TrainState(jnp.int32(step), Network(params, {}, (jnp.int32(step),)))


def fresh_data():
    return iter(grain.MapDataset.range(1000).shuffle(seed=0).to_iter_dataset())


@pytest.fixture
def folder(tmp_path) -> epath.Path:
    return epath.Path(tmp_path) / "psnr"


def target() -> TrainState:
    return jax.eval_shape(lambda: state_at(0))


CONFIG = {
    "scale": 4,
    "generator": {"name": "rrdb", "num_features": 4, "scale": 4, "dtype": "float32"},
    "discriminator": {"num_features": 2},
    "psnr": {"steps": 6, "clip_norm": 0.0, "ema_decay": 0.9, "hr_patch": 16},
    "gan": {"hr_patch": 32, "clip_norm": 0.0, "ema_decay": 0.0},
    "data": {"train": "a", "num_workers": 0, "changed": "refuse"},
}
IMAGES = {"count": 2, "sha256": "ab", "files": {"a.png": 10, "b.png": 20}}


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 8), (4, 1)])
def test_a_checkpoint_is_restored_in_another_placement_bit_for_bit(
    folder, before, after, monkeypatch
):
    monkeypatch.setattr(sharding, "SMALL", 0)

    def shardings(fsdp):
        rules = [("", "fsdp")]
        return sharding.placements(state_at(3), sharding.create_mesh(fsdp=fsdp), rules)

    saved = jax.device_put(state_at(3), shardings(before))
    with opened(folder) as checkpoints:
        checkpoints.save(saved, fresh_data())
    wanted = shardings(after)
    with opened(folder) as checkpoints:
        restored = checkpoints.restore(sharding.shapes(target(), wanted), fresh_data())
    jax.tree.map(np.testing.assert_array_equal, restored, state_at(3))
    assert jax.tree.map(lambda leaf: leaf.sharding, restored) == wanted
    kernel = restored.generator.params["conv"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (3, 3, 16 // after, 16)


def opened(folder: epath.Path, keep: int = 3, config=CONFIG, images=IMAGES) -> RunCheckpoints:
    return RunCheckpoints(folder, config, images, keep)


def descriptors_and_threads() -> tuple[int, int]:
    """Returns the numbers of open file descriptors and of threads of this process."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def test_the_best_can_be_the_lowest_and_some_checkpoints_have_no_finite_score(folder):
    scores = [{"psnr_y": 30.0}, {"lpips": 0.2}, {"lpips": -math.inf}, None, {"psnr_y": 31.0}]
    with RunCheckpoints(folder, CONFIG, IMAGES, 1, "lpips") as checkpoints:
        for step, values in enumerate(scores, 1):
            checkpoints.save(state_at(step), fresh_data(), values)
    assert saved_steps(folder) == [5, 2]


def test_thirty_saves_leave_no_thread_or_file_open(folder):
    data = fresh_data()
    with opened(folder, 2) as checkpoints:
        for step in range(1, 34):
            checkpoints.save(state_at(step), data)
            if step == 3:
                checkpoints.wait()
                before = descriptors_and_threads()
        checkpoints.wait()
        assert descriptors_and_threads() == before
    assert sorted(os.listdir(folder / "checkpoints")) == ["32", "33"]


def test_saves_leave_no_memory_allocated(folder):
    arrays = {str(index): jnp.ones((2, 2)) for index in range(50)}
    data = fresh_data()
    with opened(folder, 2) as checkpoints:
        for step in range(1, 16):
            checkpoints.save(TrainState(jnp.int32(step), Network(arrays, {}, ())), data)
            checkpoints.wait()
            if step == 5:
                gc.collect()
                before = sys.getallocatedblocks()
    gc.collect()
    grown = (sys.getallocatedblocks() - before) / 10
    assert grown < 150  # TensorStore alone keeps 200 for the arrays and 200 for its metrics


@pytest.fixture
def small_files():
    """Limits files to 4 KiB, so that writes fail as on a full disk; yields a function to undo."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_failed_save_is_reported_and_the_previous_checkpoint_kept(folder, request, capfd):
    data = fresh_data()
    with opened(folder, 1) as checkpoints:
        checkpoints.save(state_at(1), data)
    remove_limit = request.getfixturevalue("small_files")
    with opened(folder, 1) as checkpoints:
        checkpoints.save(state_at(2), data)
        message = (
            r"psnr/checkpoints: checkpoint 2 .* saved, the one of step 1 is there: File too large$"
        )
        with pytest.raises(RunError, match=message):
            checkpoints.save(state_at(3), data)
    remove_limit()
    assert capfd.readouterr() == ("", "")  # nothing that Orbax logs or prints
    with opened(folder, 1) as checkpoints:
        restored = checkpoints.restore(target(), fresh_data())
        jax.tree.map(np.testing.assert_array_equal, restored, state_at(1))
        checkpoints.save(state_at(2), data)
    assert os.listdir(folder / "checkpoints") == ["2"]


def test_a_failed_save_is_raised_at_the_end_of_the_run(folder, request):
    request.getfixturevalue("small_files")
    with (
        pytest.raises(
            RunError, match="checkpoint 1 could not be saved, there is none before: File too"
        ),
        opened(folder, 1) as checkpoints,
    ):
        checkpoints.save(state_at(1), fresh_data())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "no space left on the disk, .* free in .*psnr/checkpoints; m"),
        (ValueError("UNAVAILABLE: [OS error 28: ENOSPC No space left on device]"), "no space left"),
        (OSError(errno.EDQUOT, "x"), "your quota of the disk"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (RuntimeError("first line\nsecond"), "first line$"),
    ],
)
def test_the_reason_of_a_failed_save_is_reported(folder, monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    with opened(folder, 1) as checkpoints:
        monkeypatch.setattr(checkpoints._open(), "save_checkpointables_async", fail)
        with pytest.raises(RunError, match=reason):
            checkpoints.save(state_at(1), fresh_data())


ABSENT = "NOT_FOUND: Failed to open: No such file or directory [os_error_code='2']"
TOO_LARGE = "OUT_OF_RANGE: Failed to write 4902 bytes: File too large [os_error_code='27']"


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ((OSError(errno.ENOENT, "x"), OSError(errno.ENOSPC, "x")), "no space left on the disk"),
        ((ValueError(ABSENT), ValueError(TOO_LARGE)), "File too large$"),
        ((OSError(errno.EIO, "Input/output error"), ValueError(TOO_LARGE)), "File too large$"),
        ((FileNotFoundError(2, "x"), OSError(errno.EIO, "Input/output")), "Input/output"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("how", ["cause", "context", "group", "log"])
def test_the_cause_of_a_failed_save_is_found_in_any_order(
    folder, monkeypatch, errors, reason, order, how
):
    """Orbax raises one of several errors: the first one, or a later one of a thread."""
    first, second = errors[::order]

    def fail(*_, **__):
        if how == "group":
            raise ExceptionGroup("several", [first, second])
        if how == "cause":
            raise second from first
        if how == "log":
            info = (type(first), first, None)
            path = "/x/orbax/checkpoint/future.py"
            record = logging.LogRecord("absl", logging.ERROR, path, 1, "failed", (), info)
            logging.getLogger("absl").handle(record)
            raise second
        try:
            raise first
        except (OSError, ValueError):
            raise second  # noqa: B904

    with opened(folder, 1) as checkpoints:
        monkeypatch.setattr(checkpoints._open(), "save_checkpointables_async", fail)
        with pytest.raises(RunError, match=reason):
            checkpoints.save(state_at(1), fresh_data())
    for error in errors:  # the parametrized cases share them
        error.__cause__ = error.__context__ = None


def test_the_logged_error_of_an_earlier_save_is_ignored(folder, monkeypatch):
    def fail(*_, **__):
        raise FileNotFoundError(2, "No such file or directory")

    orbax_setup._logged.add(errno.ENOSPC)
    with opened(folder, 1) as checkpoints:
        monkeypatch.setattr(checkpoints._open(), "save_checkpointables_async", fail)
        with pytest.raises(RunError, match=r"No such file or directory$"):
            checkpoints.save(state_at(1), fresh_data())


def test_too_little_disk_space_is_reported_before_training(folder, monkeypatch):
    """4 B of the step, 4 of Adam, and 4 for each of 3·3·16·16 weights: half of it is 4,612 B."""
    usage = types.SimpleNamespace(free=4612)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    checkpoints = opened(folder)
    checkpoints.check_room(state_at(1))
    usage.free = 4611
    with pytest.raises(RunError, match=r"psnr/checkpoints: a checkpoint takes at least .* free in"):
        checkpoints.check_room(state_at(1))
    assert not folder.exists()


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "psnr").write_text("")
    with pytest.raises(RunError, match=r"psnr/checkpoints: could not be written: \w"):
        opened(epath.Path(tmp_path) / "psnr", 1).restore(target(), fresh_data())


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The folder of a stage with checkpoints of steps 1 and 2, at batches 1 and 2 of the data."""
    folder, data = tmp_path_factory.mktemp("saved") / "psnr", fresh_data()
    with opened(epath.Path(folder)) as checkpoints:
        for step in (1, 2):
            next(data)
            checkpoints.save(state_at(step), data, {"psnr_y": float(step)})
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def bytes_flipped(path: Path, places: int) -> Iterator[bytes]:
    data = path.read_bytes()
    for start in sorted({i * max(len(data) - 8, 0) // max(places - 1, 1) for i in range(places)}):
        changed = bytes(byte ^ 0x15 for byte in data[start : start + 8])
        yield data[:start] + changed + data[start + 8 :]


DAMAGE = {
    "missing": lambda path: [None],
    "empty": lambda path: [b""],
    "cut": lambda path: [path.read_bytes()[: path.stat().st_size // 2], path.read_bytes()[:-1]],
    "flipped": lambda path: bytes_flipped(path, 3),
    "zeros": lambda path: [bytes(path.stat().st_size)],
}
OTHERS = ("empty", "cut", "zeros")


@pytest.mark.parametrize(
    "kind",
    [*("missing", "flipped"), *(pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS)],
)
def test_with_any_damage_to_the_newest_checkpoint_a_saved_state_is_restored(
    saved, tmp_path, capfd, caplog, kind
):
    """Each file in turn: step 2 is restored all the same, or renamed and step 1 restored."""
    names = [path.relative_to(saved) for path in files(saved / "checkpoints" / "2")]
    assert len(names) > 15
    renamed = 0
    for name in names:
        for contents in DAMAGE[kind](saved / name):
            err, step = damage_and_restore(saved, tmp_path / "psnr", name, contents, capfd)
            kept = {path.name for path in (tmp_path / "psnr" / "checkpoints").iterdir()}
            assert kept - {"3"} == ({"1", "2"} if step == 2 else {"1", "2.damaged"}), name
            assert (step == 1) == ("checkpoints/2: is damaged (" in err), name
            assert err.count("\n") == (step == 1), err
            renamed += step == 1
    assert renamed >= 9
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("kind", ["missing", "zeros"])
def test_a_damaged_older_checkpoint_does_not_matter(saved, tmp_path, capfd, kind):
    for path in files(saved / "checkpoints" / "1"):
        name = path.relative_to(saved)
        for contents in DAMAGE[kind](path):
            err, step = damage_and_restore(saved, tmp_path / "psnr", name, contents, capfd)
            assert step == 2
            assert err == "" or "checkpoints/1: is damaged (its metrics" in err


def damage_and_restore(saved, folder, name, contents, capfd) -> tuple[str, int]:
    """Damages a file of a copy, restores and saves: stderr and the restored step."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    (folder / name).unlink() if contents is None else (folder / name).write_bytes(contents)
    data = fresh_data()
    with opened(epath.Path(folder)) as checkpoints:
        checkpoints.check()
        state = checkpoints.restore(target(), data)
        assert state is not None
        step = int(state.step)
        jax.tree.map(np.testing.assert_array_equal, state, state_at(step))
        assert data.get_state() == {"next_index": step}
        if not contents:
            checkpoints.save(state_at(3), data)
    return capfd.readouterr().err, step


def test_if_all_checkpoints_are_damaged_they_are_refused_and_left_unchanged(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "psnr")
    for step in ("1", "2"):
        (tmp_path / "psnr" / "checkpoints" / step / "state" / "manifest.ocdbt").unlink()
    before = files(tmp_path / "psnr")
    message = (
        r"checkpoints: all checkpoints are damaged, .* changed: 2 \(.+\); 1 \(.+\)\. Restore one"
    )
    with pytest.raises(InputError, match=message), opened(epath.Path(tmp_path) / "psnr") as found:
        found.restore(target(), fresh_data())
    assert files(tmp_path / "psnr") == before


def test_if_processes_restore_different_checkpoints_the_run_ends(saved, monkeypatch):
    before = files(saved)
    monkeypatch.setattr(distributed, "gather", lambda value: [value, [1, value[1]]])
    message = r"could read the same checkpoints \(the newest, in the order .*: 2, 1; 0 is none\)"
    with pytest.raises(RunError, match=message), opened(epath.Path(saved)) as found:
        found.restore(target(), fresh_data())
    assert files(saved) == before


def test_a_second_damaged_checkpoint_of_a_step_gets_a_new_name(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "psnr")
    folder = tmp_path / "psnr" / "checkpoints"
    (folder / "2.damaged").mkdir()
    (folder / "2" / "config" / "data.json").write_text("{}")
    with opened(epath.Path(tmp_path) / "psnr") as found:
        assert int(found.restore(target(), fresh_data()).step) == 1
    assert {path.name for path in folder.iterdir()} == {"1", "2.damaged", "2.damaged-2"}


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError()])
def test_an_unreadable_checkpoint_is_not_called_damaged(saved, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    shutil.copytree(saved, tmp_path / "psnr")
    monkeypatch.setattr(orbax_setup.ocp, "load_checkpointables", fail)
    with pytest.raises(RunError, match=r"Permission denied|memory"):
        opened(epath.Path(tmp_path) / "psnr").restore(target(), fresh_data())
    assert (tmp_path / "psnr" / "checkpoints" / "2").is_dir()


def test_checkpoints_without_checksums_are_restored(saved, tmp_path, capfd):
    """Older versions did not write the record of the images either."""
    shutil.copytree(saved, tmp_path / "psnr")
    path = tmp_path / "psnr" / "checkpoints" / "2" / "_CHECKPOINT_METADATA"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"custom_metadata": {}}))
    shutil.rmtree(path.parent / "pictures")
    other = {"count": 9, "sha256": "cd", "files": {}}
    with opened(epath.Path(tmp_path) / "psnr", images=other) as checkpoints:
        checkpoints.check()
        state = checkpoints.restore(target(), fresh_data())
    jax.tree.map(np.testing.assert_array_equal, state, state_at(2))
    assert capfd.readouterr().err == ""


def changed_config(**changes):
    config = json.loads(json.dumps(CONFIG))
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (config[section] if section else config)[name] = value
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator__num_features": 6}, "generator.num_features was 4, is 6"),
        ({"scale": 2, "psnr__ema_decay": 0}, "psnr.ema_decay was 0.9, is 0, scale was 4, is 2"),
        ({"psnr__clip_norm": 0.1, "scale": 2}, "psnr.clip_norm was 0.0, is 0.1, scale was 4, is"),
        ({"psnr__optimizer": "adamw"}, "psnr.optimizer was adam, is adamw"),
        ({"generator__name": "srresnet"}, "--config.generator.name=rrdb, or choose another"),
    ],
)
def test_each_refused_change_of_the_config_is_reported(saved, tmp_path, changes, message):
    """In the error and in metrics.jsonl, whose line is removed when the run continues."""
    shutil.copytree(saved, tmp_path / "psnr")
    log = tmp_path / "psnr" / "metrics.jsonl"
    log.write_text('{"step": 1, "l_g": 0.5}\n')
    with pytest.raises(InputError, match=re.escape(message)):
        opened(epath.Path(tmp_path) / "psnr", config=changed_config(**changes)).check()
    refused = json.loads(log.read_text().splitlines()[1])
    assert refused["step"] == 2
    keys = {key.replace("__", ".") for key in changes}
    assert set(refused["refused"]) == keys
    assert {new for _, new in refused["refused"].values()} == set(changes.values())
    assert read_lines(log) == ['{"step": 1, "l_g": 0.5}\n']


@pytest.mark.parametrize(
    "changes",
    [
        {"psnr__steps": 9},
        {"psnr__ema_decay": 0.5},
        {"generator__dtype": "bfloat16"},
        {"psnr__hr_patch": 32},
        {"data__num_workers": 2},
        {"data__num_workers": None},
        {"discriminator__num_features": 8},  # of the other stage
        {"gan__hr_patch": 64},
        {"new_setting": 1},
    ],
)
def test_other_changes_of_the_config_are_accepted(saved, changes):
    opened(epath.Path(saved), config=changed_config(**changes)).check()


def test_damage_to_the_stored_config_is_not_reported_as_a_changed_config(saved, tmp_path):
    """The config changed on the disk, so the checkpoint is damaged and step 1 is restored."""
    shutil.copytree(saved, tmp_path / "psnr")
    path = tmp_path / "psnr" / "checkpoints" / "2" / "config" / "data.json"
    path.write_text(path.read_text().replace('"num_features": 4', '"num_features": 6', 1))
    with opened(epath.Path(tmp_path) / "psnr") as checkpoints:
        checkpoints.check()
        assert int(checkpoints.restore(target(), fresh_data()).step) == 1


def test_changed_images_are_refused_unless_accepted(saved, capfd):
    now = {"count": 3, "sha256": "cd", "files": {"a.png": 11, "c.png": 20, "d.png": 1}}
    message = (
        r"checkpoints/2: the training images have changed since: 2 images then, 3 now; added: "
        r"c\.png, d\.png; removed: b\.png; changed: a\.png\. .*--config\.data\.changed=accept"
    )
    with pytest.raises(InputError, match=message):
        opened(epath.Path(saved), images=now).check()
    accepting = changed_config(data__changed="accept")
    with opened(epath.Path(saved), config=accepting, images=now) as checkpoints:
        checkpoints.check()
        assert int(checkpoints.restore(target(), fresh_data()).step) == 2
    assert "changed, as accepted: 2 images then, 3 now" in capfd.readouterr().err
