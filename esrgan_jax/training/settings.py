"""Checks all settings of a config before any work."""

import difflib
import math
from collections.abc import Mapping

from esrgan_jax.degradation.sharpen import TAPS
from esrgan_jax.errors import InputError, listed
from esrgan_jax.imresize import EXACT_SCALES
from esrgan_jax.models import DISCRIMINATORS, Discriminator, UNetDiscriminator, rrdb
from esrgan_jax.setting_rule import LARGEST_INT, Rule, one_of
from esrgan_jax.training.degrading import check_function, create_recipe, is_random
from esrgan_jax.training.folders import folders, mixture
from esrgan_jax.training.ms_ssim import WINDOW
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.setting_rules import (
    NETWORKS,
    OPTIONAL,
    RUN,
    SECTIONS,
    STAGES,
    discriminator_settings,
    section_rules,
)
from esrgan_jax.training.steps import LOSSES


def check_settings(config: Config) -> None:
    """Checks each setting by itself: its key, type and range, and that none is missing.

    Raises:
        InputError: A setting is wrong. The message names its key, its value and what to take.
    """
    given = config.to_dict()
    for name in SECTIONS:
        if not isinstance(given.get(name), dict):
            raise InputError(f"{name} is {given.get(name)!r:.100}: take a section of settings")
    _check_section({k: v for k, v in given.items() if k not in SECTIONS}, RUN, "")
    for name in NETWORKS:
        _check_name(name, given[name])
    given["discriminator"] = discriminator_settings(given["discriminator"])
    for name, rules in section_rules(given).items():
        _check_section(given[name], rules, f"{name}.")


def check_run(config: Config, devices: int) -> None:
    """Checks each setting and how settings fit together, before any work is done.

    Args:
        config: As `configs/x4.py` returns it.
        devices: The number of devices that share a batch.

    Raises:
        InputError: A setting would make the run fail.
    """
    check_settings(config)
    mixture(config.data.train, "data.train")
    for key in ("train_lr", "val", "val_lr"):
        folders(config.data[key], f"data.{key}")
    if not config.data.train:
        raise InputError("no training images: give a folder by --config.data.train=DIR")
    if config.data.val_lr and not config.data.val:
        raise InputError("data.val_lr is given without its HR images: give them as data.val")
    _check_channels(config)
    _check_scale(config)
    _check_mesh(config, devices)
    for name in STAGES[config.stage]:
        _check_stage(config, name, devices)
    _check_degradation(config)


def _check_section(given: Mapping[str, object], rules: Mapping[str, Rule], prefix: str) -> None:
    if unknown := [key for key in given if key not in rules]:
        near = difflib.get_close_matches(unknown[0], list(rules), 1)
        advice = f"did you mean {near[0]}?" if near else f"known are {listed(list(rules), 40)}"
        raise InputError(f"{prefix}{unknown[0]} is not a setting: {advice}")
    missing = sorted(k for k in rules.keys() - given.keys() if f"{prefix}{k}" not in OPTIONAL)
    if missing:
        raise InputError(f"{prefix}{missing[0]} is missing from the config: give it a value")
    for key, value in given.items():
        what, fits = rules[key]
        if not fits(value):
            raise InputError(f"{prefix}{key} is {value!r:.200}: take {what}")


def _check_name(section: str, given: Mapping[str, object]) -> None:
    what, fits = one_of(*NETWORKS[section])
    if not fits(name := given.get("name")):
        raise InputError(f"{section}.name is {name!r:.100}: take {what}")


def _check_channels(config: Config) -> None:
    channels = config.generator.in_channels, config.generator.out_channels
    if channels[0] != channels[1]:
        raise InputError(
            "generator.in_channels is {} and generator.out_channels {}: take 3 for both (RGB), or "
            "1 (gray)".format(*channels)
        )


def _check_mesh(config: Config, devices: int) -> None:
    data, fsdp = config.mesh.data, config.mesh.fsdp
    if devices % fsdp:
        raise InputError(f"mesh.fsdp is {fsdp}: take a number that divides the {devices} devices")
    if data and data * fsdp != devices:
        raise InputError(
            f"mesh.data is {data} and mesh.fsdp {fsdp}, and there are {devices} devices: take "
            "--config.mesh.data=none, or let the product be the number of devices"
        )


def _check_scale(config: Config) -> None:
    scale, unshuffle = config.scale, config.generator.get("unshuffle", 1)
    triple = config.generator.name == "rrdb" and unshuffle == 1
    scales = sorted({*rrdb.RRDB_SCALES, *([3] if triple else [])})
    if scale not in scales:
        network = config.generator.name + (f" with unshuffle {unshuffle}" if unshuffle > 1 else "")
        raise InputError(f"scale is {scale}: {network} takes one of {', '.join(map(str, scales))}")
    if scale not in EXACT_SCALES and not (config.data.train_lr or is_random(config)):
        raise InputError(
            f"scale is {scale}: LR is made for {', '.join(map(str, EXACT_SCALES))}; "
            "for another scale give LR images by --config.data.train_lr"
        )


def _check_degradation(config: Config) -> None:
    if not is_random(config):
        return
    if config.data.train_lr:
        raise InputError(
            "data.train_lr gives LR images, which are not degraded: leave it out, or train with "
            "--config.degradation.name=bicubic --config.degradation.function=none"
        )
    margin = config.degradation.margin
    if margin % config.scale:
        raise InputError(
            f"degradation.margin is {margin}: take a multiple of the scale, {config.scale}"
        )
    create_recipe(config)
    for patch in sorted({config[name].hr_patch for name in STAGES[config.stage]}):
        check_function(config, patch)


def _check_stage(config: Config, name: str, devices: int) -> None:
    settings = config[name]
    multiple = config.scale * config.generator.get("unshuffle", 1)
    if name == "gan":
        multiple = math.lcm(multiple, _discriminator(config).size_multiple)
    if settings.hr_patch % multiple:
        raise InputError(f"{name}.hr_patch is {settings.hr_patch}: take a multiple of {multiple}")
    parts = settings.accumulation * devices
    if settings.batch_size % parts:
        raise InputError(
            f"{name}.batch_size is {settings.batch_size}: take a multiple of {parts} "
            f"({devices} devices, accumulation {settings.accumulation})"
        )
    if settings.best not in config.metrics:
        raise InputError(
            f"{name}.best is {settings.best}, which is not computed: add it to metrics, which has "
            f"{', '.join(config.metrics)}"
        )
    if settings.weight_decay and settings.optimizer == "adam":
        raise InputError(
            f"{name}.weight_decay is {settings.weight_decay}: adam has none; take "
            f"--config.{name}.optimizer=adamw"
        )
    if settings.unsharp and settings.hr_patch <= TAPS // 2:
        raise InputError(
            f"{name}.hr_patch is {settings.hr_patch}: {name}.unsharp needs more than {TAPS // 2}"
        )
    if settings.ms_ssim_weight and settings.hr_patch < WINDOW:
        raise InputError(
            f"{name}.hr_patch is {settings.hr_patch}: {name}.ms_ssim_weight needs {WINDOW} or more"
        )
    if settings.schedule == "cosine":
        _check_cosine(settings, name)
    elif any(a >= b for a, b in zip(settings.milestones, settings.milestones[1:], strict=False)):
        raise InputError(
            f"{name}.milestones is {settings.milestones}: take steps in ascending order"
        )
    if name == "gan":
        _check_losses(settings)
        _check_normalisation(config)


def _check_cosine(settings: Config, name: str) -> None:
    if not settings.steps <= sum(settings.periods) <= LARGEST_INT:
        raise InputError(
            f"{name}.periods end at step {sum(settings.periods)}, the stage at {settings.steps}: "
            f"let them add up, as by --config.{name}.periods='({settings.steps},)'"
        )
    for key in ("learning_rate", "d_learning_rate"):
        if settings.minimum > settings.get(key, math.inf):
            raise InputError(
                f"{name}.minimum is {settings.minimum}: take no more than {name}.{key}, "
                f"which is {settings[key]}"
            )


def _discriminator(config: Config) -> type[Discriminator] | type[UNetDiscriminator]:
    return DISCRIMINATORS[config.discriminator.name]


def _check_normalisation(config: Config) -> None:
    settings, network = config.gan, _discriminator(config)
    alone = settings.batch_size == settings.accumulation
    if network.batch_norm and alone and settings.hr_patch == network.size_multiple:
        raise InputError(
            f"gan.batch_size is {settings.batch_size}: the discriminator normalises over the last "
            f"pixel of each patch of {settings.hr_patch}, so take 2 patches or more for each part "
            "of accumulation, or a larger gan.hr_patch"
        )


def _check_losses(settings: Config) -> None:
    if settings.perceptual_weight and not any(settings.layer_weights.values()):
        raise InputError(
            "gan.layer_weights has no weight above 0: add a layer, such as conv5_4, or "
            "train without VGG by --config.gan.perceptual_weight=0"
        )
    used = [name for name, weight in settings.layer_weights.items() if weight]
    least = max((2 ** (int(name[4]) - 1) for name in used), default=1)  # pixels that are left: 1
    if settings.perceptual_weight and settings.hr_patch < least:
        raise InputError(
            f"gan.hr_patch is {settings.hr_patch}: gan.layer_weights has {', '.join(used)}, which "
            f"need {least} or more"
        )
    if settings.ldl_weight and not settings.ema_decay:
        raise InputError(
            "gan.ldl_weight needs averaged weights: take --config.gan.ema_decay=0.999, or "
            "train without by --config.gan.ldl_weight=0"
        )
    weights = [f"{name}_weight" for name in LOSSES]
    if not any(settings[weight] for weight in weights):
        raise InputError(
            f"gan.{', gan.'.join(weights)} are all 0: nothing would be learned; take a positive "
            "number for one of them"
        )
