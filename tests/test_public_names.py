"""Tests of the package's public names and of what importing the package loads."""

import subprocess
import sys

import pytest

import esrgan_jax

NAMES = {
    "Upscaler": "esrgan_jax.upscaling.upscaler",
    "load_generator": "esrgan_jax.checkpoint",
    "interpolate_params": "esrgan_jax.interpolation",
    "models": "esrgan_jax.models",
    "losses": "esrgan_jax.training.losses",
    "psnr_step": "esrgan_jax.training.steps",
    "gan_step": "esrgan_jax.training.steps",
    "TrainState": "esrgan_jax.training.train_state",
    "make_dataset": "esrgan_jax.data.pipeline",
    "train_and_evaluate": "esrgan_jax.training.loop",
}


def test_all_lists_the_public_names():
    assert sorted(NAMES) == sorted(esrgan_jax.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_the_object_of_its_module(name):
    value = getattr(esrgan_jax, name)
    module = sys.modules[NAMES[name]]
    assert value is (module if module.__name__.endswith(f".{name}") else getattr(module, name))


def test_an_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="'esrgan_jax' has no attribute 'Downscaler'"):
        esrgan_jax.Downscaler  # noqa: B018


def test_importing_loads_no_libraries_and_dir_lists_the_public_names():
    code = "import sys, esrgan_jax; print(*dir(esrgan_jax)); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, imported = (set(line.split()) for line in done.stdout.splitlines())
    assert shown >= NAMES.keys()
    assert not imported & {"jax", "numpy", "flax", "orbax", "grain", "PIL", "absl"}
    assert {name for name in imported if name.startswith("esrgan_jax.")} == set()
