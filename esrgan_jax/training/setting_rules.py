"""The allowed values of each setting, by section of the config."""

import re
from collections.abc import Mapping
from typing import Any

from esrgan_jax.degradation import settings as degradation
from esrgan_jax.evaluation.metrics import METRICS
from esrgan_jax.models import COMPUTATION_DTYPES, DISCRIMINATORS, GENERATORS, rrdb
from esrgan_jax.models.vgg import layer_names
from esrgan_jax.setting_rule import (
    FLAG,
    LARGEST_INT,
    PATH,
    TEXT,
    Rule,
    nonnegative,
    one_of,
    optional,
    whole,
)
from esrgan_jax.sharding import FSDP, PLACEMENTS
from esrgan_jax.training.train_state import LR_SCALINGS, OPTIMIZERS

STAGES = {"psnr": ("psnr",), "gan": ("gan",), "both": ("psnr", "gan")}
NORM = one_of("l1", "mse")
STEPS = Rule(
    "whole numbers of 1 or more in brackets, such as (1000, 2000)",
    lambda value: isinstance(value, tuple | list) and all(map(whole(1).fits, value)),
)


def losses(*names: str) -> Rule:
    """Some of these losses."""
    return Rule(
        f"losses in brackets, of {', '.join(names)}, such as ('{names[0]}',), or () for none",
        lambda value: isinstance(value, tuple | list) and all(name in names for name in value),
    )


SOME_METRICS = Rule(
    f"metrics in brackets, of {', '.join(METRICS)}, such as ('psnr_y', 'lpips')",
    lambda value: (
        isinstance(value, tuple | list)
        and len(value) > 0
        and all(isinstance(name, str) and name in METRICS for name in value)
    ),
)
LAYER_WEIGHTS = Rule(
    "a weight of 0 or more for each layer, conv1_1 or relu1_1 to conv5_4 or relu5_4",
    lambda value: (
        isinstance(value, Mapping)
        and all(name in layer_names(19) and nonnegative().fits(v) for name, v in value.items())
    ),
)

PLACED = Rule(
    f"pairs of a regular expression and {' or '.join(PLACEMENTS)} in brackets, such as "
    f"(('opt_state', '{FSDP}'),)",
    lambda value: isinstance(value, tuple | list) and all(map(_is_placed, value)),
)


def _is_placed(value: object) -> bool:
    if not isinstance(value, tuple | list) or len(value) != 2 or not isinstance(value[0], str):
        return False
    try:
        re.compile(value[0])
    except re.error:
        return False
    return value[1] in PLACEMENTS


RUN: dict[str, Rule] = {
    "recipe": TEXT,
    "stage": one_of(*STAGES),
    "seed": whole(0, LARGEST_INT),  # the message gives the end, since long seeds are common
    "scale": whole(1, max(rrdb.RRDB_SCALES)),
    "vgg": PATH,
    "precision": one_of("default", "highest"),
    "skip_nonfinite": whole(0),
    "metrics": SOME_METRICS,
    **dict.fromkeys(("log_every", "eval_every", "checkpoint_every", "keep"), whole(1)),
    "checkpoint_minutes": nonnegative(),
}
DATA: dict[str, Rule] = {
    **dict.fromkeys(("train", "train_lr", "val", "val_lr"), PATH),
    "changed": one_of("refuse", "accept"),
    "augment": FLAG,
    "cache": one_of("memory", "device"),
    "num_workers": optional(whole(0, 256)),
    "num_threads": whole(1, 1024),
}
MESH: dict[str, Rule] = {
    "data": optional(whole(1)),
    FSDP: whole(1),
    "rules": PLACED,
}
DEGRADATION: dict[str, Rule] = {
    "name": one_of("bicubic", "realesrgan"),
    "function": optional(TEXT),
    "margin": whole(0),
    **degradation.RULES,
}
PSNR: dict[str, Rule] = {
    "init_from": PATH,
    "steps": whole(1),
    "batch_size": whole(1),
    "hr_patch": whole(1),
    "learning_rate": nonnegative(),
    "lr_scaling": one_of(*LR_SCALINGS),
    "lr_batch_size": whole(1),
    "schedule": one_of("multistep", "cosine"),
    "milestones": STEPS,
    "factor": nonnegative(),
    "periods": STEPS,
    "minimum": nonnegative(),
    "warmup": whole(0),
    "optimizer": one_of(*OPTIMIZERS),
    **dict.fromkeys(("b1", "b2", "b3"), nonnegative(below=1)),
    "weight_decay": nonnegative(),
    "clip_norm": nonnegative(),
    "accumulation": whole(1),
    "ema_decay": nonnegative(below=1),
    "pixel_norm": NORM,
    "ms_ssim_weight": nonnegative(),
    "unsharp": losses("pixel", "ms_ssim"),
    "best": one_of(*METRICS),
}
GAN: dict[str, Rule] = PSNR | {
    "d_init_from": PATH,
    "d_learning_rate": nonnegative(),
    "d_frozen": whole(0),
    **dict.fromkeys(
        ("pixel_weight", "perceptual_weight", "gan_weight", "ldl_weight"), nonnegative()
    ),
    "perceptual_norm": NORM,
    "perceptual_dtype": one_of(*COMPUTATION_DTYPES),
    "layer_weights": LAYER_WEIGHTS,
    "unsharp": losses("pixel", "perceptual", "gan", "ms_ssim", "ldl"),
    "relativistic": FLAG,
    "stop_means": FLAG,
}
# The networks that each of these sections can describe, by name.
NETWORKS = {"generator": GENERATORS, "discriminator": DISCRIMINATORS}
SECTIONS = ("data", "mesh", "degradation", *NETWORKS, "psnr", "gan")
# Configs name only those that they change; the others have the published values.
OPTIONAL = {f"degradation.{key}" for key in degradation.RULES}


def section_rules(config: Mapping[str, Any]) -> dict[str, dict[str, Rule]]:
    """Returns the rules of each section, by key; those of the networks that the config names."""
    sections = {"data": DATA, "mesh": MESH, "degradation": DEGRADATION, "psnr": PSNR, "gan": GAN}
    for section, networks in NETWORKS.items():
        given: Any = config.get(section)  # a mapping, or whatever else the config has
        network = networks.get(str(given.get("name"))) if hasattr(given, "get") else None
        settings = network.settings if network else {}
        sections[section] = {"name": one_of(*networks), **settings}
    return sections


def discriminator_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a discriminator's section without the settings that only other ones have.

    So its name alone can be changed.
    """
    own = DISCRIMINATORS[given["name"]].settings.keys()
    others = {key for network in DISCRIMINATORS.values() for key in network.settings} - own
    return {key: value for key, value in given.items() if key not in others}


def rules(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the allowed values of each setting in words, by key, for the config's networks."""
    sections = section_rules(config).items()
    inner = {f"{k}.{key}": rule for k, section in sections for key, rule in section.items()}
    return {key: rule.what for key, rule in {**RUN, **inner}.items()}
