"""Tests of the checks of settings before training: names, types, ranges and combinations."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from configs import demo, lite_x4, x4
from configs.ablations import srgan_baseline
from esrgan_jax.errors import InputError
from esrgan_jax.training.folders import folders, mixture, path
from esrgan_jax.training.loop import train_and_evaluate, use_cores
from esrgan_jax.training.settings import check_run


def changed(config: Any, changes: dict[str, Any]) -> Any:
    """Replaces settings in the config, whatever the type of the new values, and returns it."""
    config.data.train = "photographs"
    with config.ignore_type(), config.unlocked():
        for key, value in changes.items():
            section, _, name = key.rpartition(".")
            (config[section] if section else config)[name] = value
    return config


def refusal(config: Any, changes: dict[str, Any], devices: int = 1) -> str:
    with pytest.raises(InputError) as caught:
        check_run(changed(config, changes), devices)
    message = str(caught.value)
    assert "\n" not in message
    return message


WHOLE = ("steps", "batch_size", "hr_patch", "accumulation")
BELOW_1 = ("b1", "b2", "b3", "ema_decay")
REAL = ("learning_rate", "factor", "minimum", "clip_norm")
WEIGHTS = ("d_learning_rate", "pixel_weight", "perceptual_weight", "gan_weight", "ldl_weight")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        *((f"{stage}.{key}", (0, -1, 1.5, "8", True, None, 2**31, (1,)))
          for stage in ("psnr", "gan") for key in WHOLE),
        *((f"{stage}.{key}", (1.0, 2, -0.1, math.nan, math.inf, "0.9"))
          for stage in ("psnr", "gan") for key in BELOW_1),
        *((f"{stage}.{key}", (-1e-9, math.nan, math.inf, -math.inf, 1e39, "1e-4", None))
          for stage in ("psnr", "gan") for key in REAL),
        *((f"gan.{key}", (-1, math.nan, math.inf, "1")) for key in WEIGHTS),
        *((f"{stage}.{key}", (7, (0,), (-5, 5), (1.5,), ("100",), (True,), (2**31,), "(100,200)",
                           None))
          for stage in ("psnr", "gan") for key in ("milestones", "periods")),
        ("gan.lr_scaling", ("square", "", None, 2)),
        ("psnr.lr_batch_size", (0, 1.5, "16", None)),
        ("psnr.schedule", ("linear", "", None, 1)),
        ("psnr.unsharp", ("pixel", ("gan",), None, True)),
        ("gan.unsharp", ("pixel", ("vgg",), (1,))),
        ("degradation.name", ("jpeg", None, 1)),
        ("degradation.function", (1, True)),
        ("degradation.margin", (-4, 1.5, "8", None)),
        ("gan.pixel_norm", ("l3", "L1", 1)),
        ("gan.perceptual_norm", ("l2", None)),
        ("gan.perceptual_dtype", ("float16", None)),
        ("skip_nonfinite", (-1, 0.5, None)),
        ("checkpoint_minutes", (-1, math.nan, "60", None)),
        ("metrics", ((), "lpips", ("ssim",), (1,), (["lpips"],), None)),
        ("gan.best", ("ssim", ("lpips",), None)),
        ("precision", ("float32", "high", None)),
        ("gan.relativistic", (1, "yes", None)),
        ("gan.stop_means", (0, "True")),
        ("gan.layer_weights", ({"conv6_1": 1.0}, {"relu5_5": 1.0}, {"conv5_4": -1.0},
                               {"conv5_4": math.nan}, {"conv5_4": "1"}, "conv5_4", ("conv5_4",))),
        ("gan.d_init_from", (1, True, ("a",))),
        ("psnr.init_from", (1, ("a.pth",))),
        *((key, (0, -1, 2.0, "100", None))
          for key in ("log_every", "eval_every", "checkpoint_every", "keep")),
        ("stage", ("sideways", "", None, ("psnr",), 1)),
        ("seed", (-1, 2**31, 0.5, "0", None)),
        ("scale", (0, -4, 4.0, "4", 64, None)),
        ("vgg", (19, True)),
        ("recipe", (1, None)),
        ("data.train", (1, ("a", "b"))),
        ("data.val", (True,)),
        ("data.augment", (1, "False", None)),
        ("data.num_workers", (-1, 1.5, "2", 10**6, True)),
        ("data.num_threads", (0, -4, 10**9)),
        ("mesh.data", (0, -1, 1.5, "2")),
        ("mesh.fsdp", (0, -1, 1.5, "2", None)),
        ("mesh.rules", ("fsdp", None, (".*", "fsdp"), ((".*", "zero"),), (("(", "fsdp"),),
                        ((1, "fsdp"),), ((".*",),))),
        ("generator.name", ("edsr", "", None, 1)),
        *((f"generator.{key}", (0, -1, 1.5, "64"))
          for key in ("num_features", "num_growth", "num_blocks")),
        *((f"generator.{key}", (0, 4, 3.0, "3", True)) for key in ("in_channels", "out_channels")),
        ("generator.unshuffle", (0, 3, -2, "2", 16, True)),
        ("generator.plus", (1, "no")),
        ("generator.remat", (0, None)),
        ("generator.upsampler", ("bilinear", 2)),
        ("generator.initializer", ("he", None)),
        ("generator.dtype", ("float16", "float31", 32)),
        ("discriminator.name", ("patch", None, 1)),
        ("discriminator.num_features", (0, -64, 6.4)),
        ("discriminator.use_bias", (1, "False")),
        ("discriminator.initializer", ("basicsr", "he", None)),
        ("discriminator.dtype", ("float31", None)),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_or_range_is_refused(key: str, values: tuple) -> None:
    for value in values:
        message = refusal(x4.get_config(), {key: value})
        assert message.startswith(f"{key} is ")
        assert str(value) in message
        assert ": take " in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"psnr.learning_rte": 1e-4},
            r"^psnr.learning_rte is not a setting: did you mean learning_",
        ),
        ({"discriminator.num_feature": 64}, "^discriminator.num_feature is not a .* num_features"),
        ({"data.folder": "x"}, "^data.folder is not a setting: known are train, train_lr"),
        ({"sede": 1}, "^sede is not a setting: did you mean seed"),
        ({"seed": 10**20}, f"^seed is {10**20}: take a whole number, 0 to 2147483647"),
        ({"generator.normalize": True}, "^generator.normalize is not a setting"),
        ({"generator.hr_patch": 1}, "^generator.hr_patch is not a setting"),
        ({"psnr": 5}, "^psnr is 5: take a section"),
        ({"data": None}, "^data is None: take a section"),
        ({"scale": 5}, "^scale is 5: rrdb takes one of 1, 2, 3, 4, 8, 16, 32"),
        ({"scale": 3, "generator.unshuffle": 2}, "^scale is 3: rrdb with unshuffle 2 takes"),
        ({"scale": 16}, "data.train_lr"),
        ({"data.train": ""}, "data.train=DIR"),
        ({"data.train": "a,,b"}, "^data.train is 'a,,b': a folder's name between commas is empty"),
        ({"data.train_lr": "a, "}, "^data.train_lr is 'a, '"),
        ({"data.val_lr": "lr"}, "^data.val_lr is given without"),
        (
            {"psnr.hr_patch": 24, "psnr.unsharp": ("pixel",)},
            "^psnr.hr_patch is 24: psnr.unsharp needs more than 25",
        ),
        ({"psnr.hr_patch": 18}, "^psnr.hr_patch is 18: take a multiple of 4"),
        ({"psnr.hr_patch": 36, "generator.unshuffle": 2}, "^psnr.hr_patch is 36: .* 8"),
        ({"gan.hr_patch": 48}, "^gan.hr_patch is 48: take a multiple of 32"),
        ({"mesh.fsdp": 4}, "^mesh.fsdp is 4: take a number that divides the 2 devices"),
        ({"mesh.data": 2, "mesh.fsdp": 2}, "^mesh.data is 2 and mesh.fsdp 2, and there are 2 dev"),
        ({"psnr.batch_size": 3}, "^psnr.batch_size is 3: take a multiple of 2"),
        ({"gan.accumulation": 3}, "^gan.batch_size is 16: take a multiple of 6"),
        ({"psnr.milestones": (200, 100)}, r"^psnr.milestones is \(200, 100\): .* ascending"),
        ({"psnr.weight_decay": 0.1}, "^psnr.weight_decay is 0.1: adam has none; .*=adamw"),
        ({"gan.best": "lpips"}, "^gan.best is lpips, which is not computed: add it to metrics"),
        ({"gan.milestones": (100, 100)}, "^gan.milestones .* ascending"),
        ({"psnr.schedule": "cosine", "psnr.steps": 1_000_001}, "^psnr.periods end at step 1000000"),
        ({"gan.schedule": "cosine", "gan.periods": (2**31 - 1, 1)}, "^gan.periods end at"),
        ({"gan.schedule": "cosine", "gan.minimum": 2e-4}, "^gan.minimum is 0.0002: .* 0.0001"),
        (
            {"gan.hr_patch": 32, "gan.accumulation": 8, "gan.batch_size": 8},
            "^gan.batch_size is 8: the discriminator normalises",
        ),
        ({"gan.ldl_weight": 1.0}, "^gan.ldl_weight needs averaged weights: .*ema_decay=0.999"),
        (
            {"psnr.hr_patch": 8, "psnr.ms_ssim_weight": 1.0},
            "^psnr.hr_patch is 8: psnr.ms_ssim_weight needs 11 or more",
        ),
        (
            {"gan.hr_patch": 8, "discriminator.name": "unet"},
            "^gan.hr_patch is 8: gan.layer_weights has conv5_4, which need 16 or more",
        ),
        ({"gan.layer_weights": {}}, "^gan.layer_weights has no weight"),
        ({"gan.layer_weights": {"conv5_4": 0.0}}, "^gan.layer_weights has no weight"),
        (
            {f"gan.{part}_weight": 0.0 for part in ("pixel", "perceptual", "gan")},
            "nothing would be learned",
        ),
    ],
)
def test_unknown_or_incompatible_settings_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    devices = 1 if "gan.accumulation" in changes and "gan.batch_size" in changes else 2
    with pytest.raises(InputError, match=message):
        check_run(changed(x4.get_config(), changes), devices)


def test_a_missing_setting_is_refused() -> None:
    config = x4.get_config()
    del config.gan["b2"]
    assert refusal(config, {}) == "gan.b2 is missing from the config: give it a value"
    for section in ("mesh", "discriminator"):
        config = x4.get_config()
        del config[section]
        assert refusal(config, {}).startswith(f"{section} is None: take a section")
    config = x4.get_config()
    del config.generator["name"]
    assert refusal(config, {}).startswith("generator.name is None: take ")


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (x4.get_config(), {"psnr.milestones": (), "gan.factor": 1, "seed": 2**31 - 1}),
        (x4.get_config(), {"scale": 32, "data.train_lr": "lr", "data.val": ""}),
        (x4.get_config(), {"scale": 3, "psnr.hr_patch": 192, "gan.hr_patch": 96}),
        (x4.get_config(), {"generator.upsampler": "pixelshuffle", "psnr.periods": [5, 5]}),
        (x4.get_config(), {"gan.perceptual_weight": 0, "gan.layer_weights": {}}),
        (x4.get_config(), {"gan.layer_weights": {"conv1_2": 1, "relu5_4": 0.5}}),
        (x4.get_config(), {"stage": "psnr", "gan.hr_patch": 50, "gan.batch_size": 3}),
        (x4.get_config(), {"gan.hr_patch": 32, "gan.accumulation": 8}),
        (x4.get_config(), {"mesh.data": 1, "mesh.rules": [["opt_state", "fsdp"]]}),
        (lite_x4.get_config(), {"psnr.learning_rate": 0, "psnr.minimum": 0, "psnr.b1": 0}),
        (srgan_baseline.get_config(), {"generator.initializer": "torch"}),
        (demo.get_config(), {}),
    ],
)
def test_valid_settings_are_accepted(config: Any, changes: dict[str, Any]) -> None:
    check_run(changed(config, changes), devices=1)


def test_settings_are_checked_before_files_are_written(tmp_path: Path) -> None:
    """Also by `use_cores`, which sets the number of devices; an empty workdir is refused."""
    for run in (use_cores, lambda config: train_and_evaluate(config, str(tmp_path / "run"))):
        with pytest.raises(InputError, match="accumulation is 'two'"):
            run(changed(x4.get_config(), {"psnr.accumulation": "two"}))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="workdir's name is empty"):
        train_and_evaluate(x4.get_config(), "")


def test_folders_of_a_mixture_have_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b,c", "d:2", "e"):
        (tmp_path / name).mkdir()
    names = {
        "a:3,e:1": (["a", "e"], [3, 1]),
        "a:0.5,b,c:2,d:2:1": (["a", "b,c", "d:2"], [0.5, 2, 1]),
        "d:2,b,c": (["d:2", "b,c"], []),
        "nowhere:7": (["nowhere"], [7]),
    }
    for value, expected in names.items():
        assert mixture(value, "data.train") == expected
    for value in ("a:3,e", "a:0,e:1", "nowhere:1,a"):
        with pytest.raises(InputError, match=f"^data.train is '{value}': give each folder a weig"):
            mixture(value, "data.train")
    with pytest.raises(InputError, match=r"^data.val is 'a:3': only data\.train takes weights"):
        folders("a:3", "data.val")


def test_folders_are_split_at_commas_and_tildes_expanded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "a,b", "Paris, May"):
        (tmp_path / name).mkdir()
    assert folders(None, "data.train") == folders("", "data.train") == []
    assert folders("a,c", "data.train") == ["a", "c"]
    assert folders("a,b", "data.train") == ["a,b"]
    assert folders("b,a", "data.train") == ["b", "a"]
    assert folders("a,b,b", "data.train") == ["a,b", "b"]
    assert folders("b,Paris, May,a", "data.train") == ["b", "Paris, May", "a"]
    assert folders("~/a,~/Paris, May", "data.train") == [f"{tmp_path}/a", f"{tmp_path}/Paris, May"]
    assert path("~/net.pth") == f"{tmp_path}/net.pth"
    assert path("") is path(None) is None


def test_a_config_restored_from_json_is_accepted() -> None:
    config = x4.get_config()
    config.data.train = "photographs"
    check_run(ConfigDict(json.loads(json.dumps(config.to_dict()))), devices=1)
