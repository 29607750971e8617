"""The allowed values of each setting, by section of the config."""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from esrgan_jax.models import DISCRIMINATORS, DTYPES, rrdb
from esrgan_jax.models.conv import INITIALIZERS
from esrgan_jax.models.vgg import layer_names

STAGES = {"psnr": ("psnr",), "gan": ("gan",), "both": ("psnr", "gan")}
Rule = tuple[str, Callable[[Any], bool]]  # what to take, and whether a value is that
LARGEST, HUGE = 2**31 - 1, 1e38  # of int32 and float32, as the devices compute


def whole(least: int = 0, most: int | None = None) -> Rule:
    says = f"{least} or more" if most is None else f"{least} to {most}"
    end = LARGEST if most is None else most
    return (f"a whole number, {says}", lambda value: _is_whole(value) and least <= value <= end)


def number(below: float = HUGE) -> Rule:
    says = "0 or more" if below == HUGE else f"0 or more, below {below:g}"
    return (f"a number, {says}", lambda value: _is_real(value) and 0 <= value < below)


def one_of(*choices: Any) -> Rule:
    kinds = tuple(map(type, choices))
    says = f"one of {', '.join(map(str, choices))}"
    return (says, lambda value: isinstance(value, kinds) and value in choices)


TEXT: Rule = ("a text", lambda value: isinstance(value, str))
PATH: Rule = ("a path, or none", lambda value: value is None or isinstance(value, str))
FLAG: Rule = ("True or False", lambda value: isinstance(value, bool))
DTYPE = one_of(*DTYPES)
NORM = one_of("l1", "mse")
STEPS: Rule = (
    "whole numbers of 1 or more in brackets, such as (1000, 2000)",
    lambda value: isinstance(value, tuple | list) and all(_is_whole(v) and v > 0 for v in value),
)
LAYERS: Rule = (
    "a weight of 0 or more for each layer, conv1_1 or relu1_1 to conv5_4 or relu5_4",
    lambda value: (
        isinstance(value, Mapping)
        and all(name in layer_names(19) and number()[1](v) for name, v in value.items())
    ),
)

RUN: dict[str, Rule] = {
    "recipe": TEXT,
    "stage": one_of(*STAGES),
    "seed": whole(0, LARGEST),  # says its end: long seeds are common
    "scale": whole(1, max(rrdb.SCALES)),
    "vgg": PATH,
    **dict.fromkeys(("log_every", "eval_every", "checkpoint_every", "keep"), whole(1)),
}
DATA: dict[str, Rule] = {
    **dict.fromkeys(("train", "train_lr", "val", "val_lr"), PATH),
    "changed": one_of("refuse", "accept"),
    "augment": FLAG,
    "num_workers": whole(0, 256),
    "num_threads": whole(1, 1024),
}
GENERATOR: dict[str, Rule] = {
    "num_features": whole(1),
    "num_blocks": whole(1),
    "in_channels": ("3, since training is on RGB", lambda value: _is_whole(value) and value == 3),
    "out_channels": ("3, since training is on RGB", lambda value: _is_whole(value) and value == 3),
    "dtype": DTYPE,
}
GENERATORS: dict[str, dict[str, Rule]] = {
    "rrdb": GENERATOR
    | {
        "num_growth": whole(1),
        "unshuffle": one_of(*rrdb.UNSHUFFLES),
        "plus": FLAG,
        "upsampler": one_of("upconv", "pixelshuffle"),
        "initializer": one_of(*INITIALIZERS, "basicsr"),
        "remat": FLAG,
    },
    "srresnet": GENERATOR | {"normalize": FLAG, "initializer": one_of(*INITIALIZERS)},
}
DISCRIMINATOR: dict[str, Rule] = {
    "name": one_of(*DISCRIMINATORS),
    "num_features": whole(1),
    "use_bias": FLAG,
    "initializer": one_of(*INITIALIZERS),
    "dtype": DTYPE,
}
PSNR: dict[str, Rule] = {
    "init_from": PATH,
    "steps": whole(1),
    "batch_size": whole(1),
    "hr_patch": whole(1),
    "learning_rate": number(),
    "schedule": one_of("multistep", "cosine"),
    "milestones": STEPS,
    "factor": number(),
    "periods": STEPS,
    "minimum": number(),
    "b1": number(below=1),
    "b2": number(below=1),
    "clip_norm": number(),
    "accumulation": whole(1),
    "ema_decay": number(below=1),
    "pixel_norm": NORM,
}
GAN: dict[str, Rule] = PSNR | {
    "d_init_from": PATH,
    "d_learning_rate": number(),
    **dict.fromkeys(("pixel_weight", "perceptual_weight", "gan_weight"), number()),
    "perceptual_norm": NORM,
    "layer_weights": LAYERS,
    "relativistic": FLAG,
    "stop_means": FLAG,
}
SECTIONS = {"data": DATA, "discriminator": DISCRIMINATOR, "psnr": PSNR, "gan": GAN}
# Of no config of ours, and of none from before there was a choice.
OPTIONAL = {"generator.upsampler", "discriminator.name"}


def rules(config: Mapping[str, Any]) -> dict[str, str]:
    """What may be taken for each setting, by its key; the generator's are those of its network."""
    name = config.get("generator", {}).get("name", "rrdb")
    network = {"name": one_of(*GENERATORS), **GENERATORS.get(name, {})}
    sections = {**SECTIONS, "generator": network}
    inner = {f"{k}.{key}": rule for k, section in sections.items() for key, rule in section.items()}
    return {key: what for key, (what, _) in {**RUN, **inner}.items()}


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
