"""Runs and checkpoints in a bucket of Google Cloud Storage.

The whole is tested against a server on this machine, gcp-storage-emulator, of the extra `emulator`;
it keeps the objects in memory. Parts are tested with files that fsspec keeps in memory.
"""

import importlib.util
import subprocess
import sys

import jax
import numpy as np
import pytest
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from configs import demo
from esrgan_jax import bucket, checkpoint
from esrgan_jax.bucket import COMMITTED
from esrgan_jax.checkpoint import load_generator, saved_steps
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.unet_discriminator import UNetDiscriminator
from esrgan_jax.training import run_config
from esrgan_jax.training.folders import workdir_path
from esrgan_jax.training.loop import train_and_evaluate
from esrgan_jax.training.metric_writer import MetricWriter, append_line
from esrgan_jax.training.validation import owed, set_owed
from esrgan_jax.upscaling.upscaler import Upscaler
from tests import processes
from tools import convert_discriminator, convert_rrdb, export

SERVER = """
import sys, threading
from gcp_storage_emulator.server import create_server
create_server("localhost", int(sys.argv[1]), in_memory=True, default_bucket="bucket").start()
print("started", flush=True)
threading.Event().wait()
"""
KILLED = "from tests.processes import after_save, kill; after_save(0, 4, kill)"


class Memory(MemoryFileSystem):
    """Files in memory whose names begin with gs://."""

    protocol = ("gs", "gcs")
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://"))


@pytest.fixture
def folder(monkeypatch) -> epath.Path:
    """Returns a folder gs://… of files in memory."""
    monkeypatch.setattr(Memory, "store", {})
    monkeypatch.setattr(Memory, "pseudo_dirs", [""])
    files = Memory(skip_instance_cache=True)
    monkeypatch.setattr(backend._FileSystemSpecBackend, "_get_filesystem", lambda self, name: files)
    return epath.Path("gs://bucket/run")


@pytest.fixture(scope="module")
def server():
    """Starts a server of buckets that this process and those that it starts use."""
    pytest.importorskip("gcsfs")
    pytest.importorskip("gcp_storage_emulator")
    port = str(processes.free_port())
    popen = subprocess.Popen([sys.executable, "-c", SERVER, port], stdout=subprocess.PIPE)
    try:
        assert popen.stdout.readline() == b"started\n"
        address = f"http://localhost:{port}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", address)  # of gcsfs
            patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
            patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "any")
            patch.setenv("GOOGLE_CLOUD_PROJECT", "any")
            patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google itself
            yield
    finally:
        popen.kill()
        popen.communicate()


@pytest.mark.slow
def test_a_run_in_a_bucket_continues_bit_for_bit_and_its_networks_are_read(
    server, both_stages, alone, tmp_path
):
    """It is killed in a save, whose checkpoint then does not count, and two processes continue."""
    workdir = epath.Path("gs://bucket/run")
    there = {"flags": [f"--workdir={workdir}"]}
    ended = processes.finish(
        processes.start(tmp_path / "killed", both_stages, 1, devices=2, before=KILLED, **there)
    )
    assert ended[0].code == -9, ended
    assert saved_steps(workdir_path(str(workdir)) / "psnr") == [2]
    ended = processes.train(tmp_path / "continued", both_stages, 2, **there)
    assert not [text for _, text in ended if "damaged" in text or "Traceback" in text]
    for stage in ("psnr", "gan"):
        processes.check_same_stage(workdir, alone, stage)
        assert sorted(p.name for p in (workdir / stage / "samples").iterdir()) == sorted(
            p.name for p in (alone / stage / "samples").iterdir()
        )
        assert any(p.name.startswith("events.out") for p in (workdir / stage).iterdir())
    here, from_bucket = load_generator(alone), load_generator(str(workdir))
    assert here[0] == from_bucket[0]
    jax.tree.map(np.testing.assert_array_equal, here[1], from_bucket[1])
    image = np.zeros((8, 8, 3), np.float32)
    blends = [
        Upscaler.load(f"{run}/gan", psnr_model=f"{run}/psnr", alpha=0.5)(image)
        for run in (alone, workdir)
    ]
    np.testing.assert_array_equal(*blends)
    with pytest.raises(InputError, match="--workdir=gs://other/run cannot be written: there is no"):
        run_config.write_config(demo.get_config(), epath.Path("gs://other/run"))


def test_logs_in_a_bucket_are_those_of_a_run_never_stopped(folder):
    with MetricWriter(folder, 0) as writer:
        for step in (1, 2):
            writer.scalars(step, {"l_g_total": 1.0 / step})
        writer.image(2, "val/a.png", np.zeros((8, 8, 3), np.uint8))
        writer.copy()
        whole = (folder / "metrics.jsonl").read_text()
        writer.scalars(3, {"l_g_total": 9.0})
    assert whole.count("\n") == 2
    assert (folder / "metrics.jsonl").read_text().count("\n") == 3  # copied at the end
    append_line(folder / "metrics.jsonl", {"step": 2, "refused": "scale"})
    assert (folder / "metrics.jsonl").read_text().count("\n") == 4
    with MetricWriter(folder, 2):
        pass
    assert (folder / "metrics.jsonl").read_text() == whole
    assert (folder / "samples" / "2" / "a.png").exists()


def test_a_checkpoint_in_a_bucket_counts_when_it_is_complete(folder):
    for step in ("2", "4"):
        (folder / "checkpoints" / step / "_CHECKPOINT_METADATA").write_text("{}")
    (folder / "checkpoints" / "2" / COMMITTED).write_text("")
    assert saved_steps(folder) == [2]
    assert saved_steps(epath.Path("gs://bucket/none")) == []


def test_small_files_of_a_run_in_a_bucket(folder, capsys):
    config = demo.get_config()
    run_config.write_config(config, folder)
    with config.unlocked():
        config.seed += 1
    run_config.write_config(config, folder)
    assert "config, changed since the last run here: seed" in capsys.readouterr().err
    set_owed(folder, 4)
    assert owed(folder, 4)
    assert not owed(folder, 6)
    set_owed(folder, None)
    assert not owed(folder, 4)


def test_the_tools_read_networks_in_a_bucket(folder, tmp_path, monkeypatch, capsys):
    """They pass its whole name on; Orbax, which would read it, is replaced."""
    generator = RRDBNet(num_features=4, num_growth=2, num_blocks=1)
    discriminator = UNetDiscriminator(num_features=4)
    fields = {"name": "unet", "num_features": 4, "in_channels": 3}
    asked = []

    def loads(first, module):
        def load(model, **_):
            asked.append(model)
            shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3)))
            return first, jax.tree.map(lambda s: np.ones(s.shape, np.float32), dict(shapes))

        return load

    monkeypatch.setattr(checkpoint, "load_generator", loads(generator, generator))
    monkeypatch.setattr(checkpoint, "load_discriminator", loads(fields, discriminator))
    for tool, target in (
        (convert_rrdb, "net.npz"),
        (convert_discriminator, "net_d.npz"),
        (export, "net.stablehlo"),
    ):
        tool.main([str(folder), str(tmp_path / target)])
        assert (tmp_path / target).is_file()
    assert asked == ["gs://bucket/run"] * 3
    assert "name          run" in capsys.readouterr().out


def test_a_bucket_that_cannot_be_reached_is_no_empty_one(folder, monkeypatch):
    """Otherwise a run would begin again, and a checkpoint would be called damaged."""

    def refuse(*arguments, **options):
        raise OSError("Forbidden: no permission")

    monkeypatch.setattr(Memory, "ls", refuse)
    monkeypatch.setattr(Memory, "info", refuse)
    with pytest.raises(RunError, match=r"^gs://bucket/run/checkpoints: cannot be used now: Forb"):
        saved_steps(folder)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(InputError, match=r"^--workdir=gs://bucket/run: cannot be used now: Forb"):
        workdir_path(str(folder))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gs://bucket/run", "needs gcsfs: pip install gcsfs"),
        ("gs://", "names no bucket"),
        (
            "s3://bucket/run",
            "Orbax, which saves and reads checkpoints, has no s3://; give a folder",
        ),
    ],
)
def test_other_buckets_are_refused_and_no_folder_has_their_name(
    name, reason, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    found = None if "gcsfs" in reason else "gcsfs"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    with pytest.raises(InputError, match=f"^--workdir={name}: {reason}"):
        train_and_evaluate(demo.get_config(), name)
    with pytest.raises(InputError, match=f"^{name}: {reason}"):
        load_generator(name)
    assert not list(tmp_path.iterdir())
    assert bucket.is_bucket(name) == name.startswith("gs")
