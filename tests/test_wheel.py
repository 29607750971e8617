"""Tests that the commands work from an installed wheel, without a clone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from esrgan_jax.cli import COMMANDS
from esrgan_jax.images.image_file import read_image, write_image

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A function that runs `esrgan-jax` of an installed wheel in an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, because setuptools writes into it
    for name in ("esrgan_jax", "configs", "tools"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=source, capture_output=True, text=True, check=True
    )
    wheel = folder / built.stdout.split()[-1]
    site, empty = folder / "site", folder / "empty"
    empty.mkdir()
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    subprocess.run([*pip, "--target", site, wheel], check=True)
    variables = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments):
        script = [sys.executable, site / "bin" / "esrgan-jax", *arguments]
        return subprocess.run(script, cwd=empty, env=variables, capture_output=True, text=True)

    run.folder = empty
    return run


def test_every_command_is_listed_and_help_shows_its_name(installed):
    listed = installed("--help").stdout
    assert all(f"\n  {name} " in listed for name in COMMANDS)
    for name in ("upscale", "export", "models"):
        assert installed(name, "--help").stdout.startswith(f"usage: esrgan-jax {name} ")


def test_a_misspelt_command_is_refused_with_a_suggestion(installed):
    done = installed("upscal")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: there is no command upscal. Did you mean upscale?\n"


def test_the_packaged_networks_are_installed(installed, rng):
    write_image(installed.folder / "lr.png", rng.integers(0, 256, (8, 6, 3), dtype=np.uint8))
    done = installed("upscale", "lr.png", "--output=sr.png")
    assert done.returncode == 0, done.stderr
    assert read_image(installed.folder / "sr.png").shape == (32, 24, 3)


def test_the_tools_are_installed(installed):
    done = installed("convert-generator", "lite-x4-psnr", "lite.npz")
    assert (done.returncode, done.stderr) == (0, "")
    assert (installed.folder / "lite.npz").is_file()


def test_the_configs_are_installed_and_import_each_other(installed):
    flags = ("--workdir=w", "--config.data.train=no", "--config.gan.perceptual_weight=0")
    done = installed("train", "--config=configs/lite_x4.py", *flags)
    assert (done.returncode, done.stderr[:18]) == (2, "error: no: no such")
    done = installed("train", "--config=configs/no.py", "--workdir=w")
    assert "configs/no.py: there is no such file; the package has configs/" in done.stderr
    assert "configs/ablations/ragan.py" in done.stderr
