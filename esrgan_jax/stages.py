"""The two stages as a config describes them: checked, then built of modules, optimisers and steps.

Beside `train.py` this is the one place that reads the config; what lies below takes plain values.
"""

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from esrgan_jax import steps
from esrgan_jax.data.resize import SCALES
from esrgan_jax.errors import InputError
from esrgan_jax.interop.vgg_names import load_vgg, missing_layers
from esrgan_jax.models import DTYPES, create_generator
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.vgg import VGGFeatures, layer_names
from esrgan_jax.run_config import Config
from esrgan_jax.train_state import (
    Params,
    TrainState,
    cosine_schedule,
    create_network,
    create_optimizer,
    multistep_schedule,
)

STAGES = {"psnr": ("psnr",), "gan": ("gan",), "both": ("psnr", "gan")}


class Stage(NamedTuple):
    """What is particular to a stage.

    Attributes:
        name: "psnr" or "gan"; also the name of its folder and of its section in the config.
        create: Random key -> fresh train state.
        step: Jitted: state (donated), frozen VGG parameters, batch -> state, metrics.
        schedules: Learning rates by the name they are logged under.
    """

    name: str
    create: Callable[[jax.Array], TrainState]
    step: Callable[[TrainState, Params, steps.Batch], tuple[TrainState, steps.Metrics]]
    schedules: Mapping[str, Callable[[int], Any]]


def create_stage(config: Config, name: str, vgg: nn.Module | None) -> Stage:
    """The stage "psnr" or "gan"; `vgg` computes the features of the GAN stage's perceptual loss."""
    return psnr_stage(config) if name == "psnr" else gan_stage(config, vgg)


def psnr_stage(config: Config) -> Stage:
    """The PSNR-oriented stage."""
    settings = config.psnr
    generator = create_config_generator(config, unroll=jax.default_backend() == "cpu")
    schedule, optimizer = _optimizer(settings, settings.learning_rate)
    step = functools.partial(
        steps.psnr_step,
        generator=generator,
        optimizer=optimizer,
        scale=config.scale,
        **_picked(settings, "pixel_norm", "ema_decay", "accumulation"),
    )
    return Stage(
        "psnr",
        functools.partial(_create, config, settings, generator, optimizer),
        jax.jit(lambda state, _, batch: step(state, batch), donate_argnums=0),
        {"lr_g": schedule},
    )


def gan_stage(config: Config, vgg: nn.Module | None) -> Stage:
    """The GAN stage; its discriminator starts from scratch."""
    settings = config.gan
    generator = create_config_generator(config, unroll=jax.default_backend() == "cpu")
    fields = config.discriminator.to_dict()
    if fields["dtype"] not in DTYPES:
        raise InputError(f"discriminator.dtype is {fields['dtype']!r}: choose one of {DTYPES}")
    discriminator = Discriminator(**fields | {"dtype": jnp.dtype(fields["dtype"])})
    schedule, optimizer = _optimizer(settings, settings.learning_rate)
    d_schedule, d_optimizer = _optimizer(settings, settings.d_learning_rate)

    def create(key: jax.Array) -> TrainState:
        g_key, d_key = jax.random.split(key)
        hr = jnp.zeros((1, settings.hr_patch, settings.hr_patch, config.generator.out_channels))
        state = _create(config, settings, generator, optimizer, g_key)
        return state.replace(discriminator=create_network(discriminator, d_key, hr, d_optimizer))

    step = functools.partial(
        steps.gan_step,
        generator=generator,
        discriminator=discriminator,
        vgg=vgg,
        optimizer=optimizer,
        d_optimizer=d_optimizer,
        scale=config.scale,
        layer_weights=settings.layer_weights.to_dict(),
        **_picked(settings, "pixel_weight", "pixel_norm", "perceptual_weight", "perceptual_norm"),
        **_picked(settings, "gan_weight", "relativistic", "stop_means"),
        **_picked(settings, "ema_decay", "accumulation"),
    )
    schedules = {"lr_g": schedule, "lr_d": d_schedule}
    return Stage("gan", create, jax.jit(step, donate_argnums=0), schedules)


def create_config_generator(config: Config, unroll: bool = False) -> nn.Module:
    """The config's generator; `unroll` writes its loop over the blocks out (see `RRDBNet`)."""
    fields = {**config.generator.to_dict(), "scale": config.scale}
    if fields["name"] == "rrdb":
        fields["unroll"] = unroll
    return create_generator(**fields)


def load_features(config: Config) -> tuple[nn.Module | None, Params]:
    """The VGG of the perceptual loss and its frozen parameters; (None, {}) where its weight is 0.

    Raises:
        InputError: It is needed and not there, or lacks a layer; says how to make it.
    """
    settings = config.gan
    if settings.perceptual_weight == 0:
        return None, {}
    how = (
        "make it by `python tools/convert_vgg.py SRC vgg19.safetensors` and give it by "
        "--config.vgg=vgg19.safetensors, or train without by --config.gan.perceptual_weight=0"
    )
    if config.vgg is None or not Path(config.vgg).is_file():
        found = "none is given" if config.vgg is None else f"there is no file {config.vgg}"
        raise InputError(f"the perceptual loss needs converted VGG weights, but {found}; {how}")
    depth, params = load_vgg(config.vgg)
    layers = list(settings.layer_weights)
    unknown = sorted(set(layers) - set(layer_names(depth)))
    if unknown or not layers:
        known = ", ".join(layer_names(depth))
        raise InputError(f"gan.layer_weights: VGG{depth} has no {unknown}; it has {known}")
    if missing := missing_layers(params, layers, depth):
        raise InputError(f"{config.vgg} lacks {', '.join(missing)}, which {layers} need; {how}")
    return VGGFeatures(layers=tuple(layers), depth=depth), params


def check_run(config: Config, devices: int) -> None:
    """InputError for settings that would fail later, after work was done."""
    if config.stage not in STAGES:
        raise InputError(f"stage is {config.stage!r}: choose one of {', '.join(STAGES)}")
    if jax.process_count() > 1:
        raise InputError("training on several hosts is not supported yet: start one process")
    if not config.data.train:
        raise InputError("no training pictures: give a folder by --config.data.train=DIR")
    for key in ("log_every", "eval_every", "checkpoint_every", "keep"):
        if config[key] < 1:
            raise InputError(f"{key} is {config[key]}: take 1 or more")
    for key in ("in_channels", "out_channels"):
        if config.generator[key] != 3:
            raise InputError(f"generator.{key} is {config.generator[key]}: training is on RGB, 3")
    if config.scale not in SCALES and not config.data.train_lr:
        raise InputError(
            f"scale is {config.scale}: LR is made for {', '.join(map(str, SCALES))}; "
            "for another scale give LR pictures by --config.data.train_lr"
        )
    for name in STAGES[config.stage]:
        _check_stage(config, name, devices)


def _check_stage(config: Config, name: str, devices: int) -> None:
    settings = config[name]
    for key in ("steps", "batch_size", "accumulation"):
        if settings[key] < 1:
            raise InputError(f"{name}.{key} is {settings[key]}: take 1 or more")
    multiple = config.scale * config.generator.get("unshuffle", 1)
    if name == "gan":
        multiple = math.lcm(multiple, 32)
    if settings.hr_patch < 1 or settings.hr_patch % multiple:
        raise InputError(f"{name}.hr_patch is {settings.hr_patch}: take a multiple of {multiple}")
    parts = settings.accumulation * devices
    if settings.batch_size % parts:
        raise InputError(
            f"{name}.batch_size is {settings.batch_size}: take a multiple of {parts} "
            f"({devices} devices, accumulation {settings.accumulation})"
        )
    for key in ("learning_rate", "d_learning_rate"):
        if settings.get(key, 0.0) < 0:
            raise InputError(f"{name}.{key} is {settings[key]}: take 0 or more")
    if settings.schedule == "cosine" and min(settings.periods, default=0) < 1:
        raise InputError(f"{name}.periods are {settings.periods}: take steps of 1 or more")
    if settings.schedule == "cosine" and sum(settings.periods) < settings.steps:
        raise InputError(
            f"{name}.periods end at step {sum(settings.periods)}, the stage at {settings.steps}: "
            f"let them add up, as by --config.{name}.periods='({settings.steps},)'"
        )
    for key in ("pixel_norm", "perceptual_norm"):
        if settings.get(key, "l1") not in ("l1", "mse"):
            raise InputError(f"{name}.{key} is {settings[key]!r}: choose l1 or mse")
    if settings.schedule not in ("multistep", "cosine"):
        raise InputError(f"{name}.schedule is {settings.schedule!r}: choose multistep or cosine")


def _create(
    config: Config,
    settings: Config,
    generator: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
) -> TrainState:
    patch = settings.hr_patch // config.scale
    lr = jnp.zeros((1, patch, patch, config.generator.in_channels))
    network = create_network(generator, key, lr, optimizer)
    averaged = network.params if settings.ema_decay > 0 else None
    return TrainState(jnp.int32(0), network, None, averaged)


def _optimizer(
    settings: Config, learning_rate: float
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    if settings.schedule == "cosine":
        schedule = cosine_schedule(learning_rate, settings.periods, settings.minimum)
    else:
        schedule = multistep_schedule(learning_rate, settings.milestones, settings.factor)
    return schedule, create_optimizer(schedule, **_picked(settings, "b1", "b2", "clip_norm"))


def _picked(settings: Config, *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names}
