"""A user's degradation is found by its name, and wrong ones are refused in one sentence."""

import functools
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import realesrgan_x4, x4
from esrgan_jax.degradation.settings import RealESRGAN
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import write_image
from esrgan_jax.training.degrading import (
    check_function,
    create_recipe,
    load_function,
    published,
)
from esrgan_jax.training.settings import check_run
from esrgan_jax.training.validation import Validation

PAGE = Path(__file__).parents[1] / "docs" / "data.md"


def config(**degradation):
    config = x4.get_config()
    config.data.train = "photographs"
    config.degradation.update(degradation)
    return config


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mymodule", "take MODULE:FUNCTION, such as mymodule:degrade"),
        (":degrade", "take MODULE:FUNCTION"),
        ("nowhere:degrade", "there is no nowhere.py in .*, nor such a package"),
        ("tests.nowhere:degrade", "there is no tests.nowhere.py in"),
        ("broken:degrade", "importing broken failed: ZeroDivisionError: division by zero"),
        ("lacking:degrade", "importing lacking failed: No module named 'nowhere'"),
        ("tests.degradations:blured", "has no function blured. Did you mean blurred?"),
    ],
)
def test_wrong_names_are_refused(tmp_path, monkeypatch, name, message):
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("1 / 0\n")
    Path("lacking.py").write_text("import nowhere\n")
    with pytest.raises(InputError, match=f"^degradation.function is '{name}': .*{message}"):
        load_function(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("too_large", r"it returns 49x50x3 float32: return an array of 50x50x3 float32"),
        ("of_integers", r"it returns 50x50x3 uint8: return an array of 50x50x3 float32"),
        ("of_two", "it returns a tuple: return"),
        ("without_scale", "it raises TypeError: .*scale"),
        ("of_numpy", "it raises TracerBoolConversionError: .*; it is compiled by jax.jit"),
    ],
)
def test_functions_that_do_not_fit_are_refused(name, message):
    changed = config(function=f"tests.degradations:{name}")
    with pytest.raises(InputError, match=message) as caught:
        check_function(changed, 56)
    assert "\n" not in str(caught.value)


def test_a_function_that_fits_only_the_patches_is_refused_in_validation(tmp_path):
    changed = config(function="tests.degradations:of_one_size")
    check_function(changed, 56)
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"called with \(key, hr 64x64x3, scale=4\) it raises T"):
        Validation.load(str(tmp_path), None, 4, create_recipe(changed))


def test_a_module_without_a_file_is_named():
    with pytest.raises(InputError, match="'sys:nowhere': sys has no function nowhere"):
        load_function("sys:nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 70}, "^degradation.margin is 70: take a multiple of the scale, 4"),
        ({"function": "nowhere:f"}, "there is no nowhere.py"),
        ({"function": "tests.degradations:of_two"}, "hr 272x272x3, scale=4.* a tuple"),
    ],
)
def test_a_run_checks_its_degradation(change, message):
    with pytest.raises(InputError, match=message):
        check_run(config(function="tests.degradations:blurred", **change) if "margin" in change
                  else config(**change), 1)  # fmt: skip


def test_settings_of_the_config_replace_the_published_ones():
    changed = realesrgan_x4.get_config()
    changed.data.train = "photographs"
    changed.degradation.jpeg_range2 = (60, 80)
    check_run(changed, 1)
    assert published(changed) == RealESRGAN(jpeg_range2=(60, 80))
    assert set(RealESRGAN._fields) < set(changed.degradation)  # --config.KEY= changes each
    assert published(config(name="realesrgan")) == RealESRGAN()
    for key, value, message in (
        ("jpeg_range", (0, 80), "^degradation.jpeg_range is .0, 80.: take two numbers"),
        ("kernel_prob2", (1.0, 2.0), "^degradation.kernel_prob2 has 2 numbers"),
        ("sinc_probe", 0.1, "^degradation.sinc_probe is not a setting: did you mean sinc_prob"),
    ):
        wrong = realesrgan_x4.get_config()
        wrong.data.train = "photographs"
        wrong.degradation[key] = value
        with pytest.raises(InputError, match=message):
            check_run(wrong, 1)


def test_pairs_are_not_degraded():
    changed = config(function="tests.degradations:blurred")
    changed.data.train_lr = "lr"
    with pytest.raises(InputError, match=r"^data\.train_lr gives LR images, which are not"):
        check_run(changed, 1)


def test_bicubic_is_no_random_degradation():
    assert create_recipe(x4.get_config()) is None


def test_the_function_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    Path("mymodule.py").write_text(code)
    changed = config(function="mymodule:degrade", margin=8)
    check_run(changed, 1)
    recipe = create_recipe(changed)
    assert recipe is not None
    hr = np.full((32, 32, 3), 0.5, np.float32)
    degrade = jax.jit(functools.partial(recipe.degrade, scale=4))
    lr = [degrade(jax.random.key(seed), hr) for seed in (0, 1)]
    assert lr[0].shape == (8, 8, 3)
    assert np.abs(lr[0] - lr[1]).max() > 0
