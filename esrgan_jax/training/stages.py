"""Builds the two stages from a checked config: modules, optimisers and jitted steps.

The functions called from here take plain values instead of the config.
"""

import functools
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from esrgan_jax import compilation, sharding
from esrgan_jax.errors import InputError
from esrgan_jax.interop.vgg_names import load_vgg, missing_layers
from esrgan_jax.models import Generator, create_discriminator, create_generator
from esrgan_jax.models.vgg import VGGFeatures, layer_names
from esrgan_jax.training import steps
from esrgan_jax.training.degrading import create_recipe
from esrgan_jax.training.folders import path
from esrgan_jax.training.losses import GanLosses
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.setting_rules import discriminator_settings
from esrgan_jax.training.train_state import (
    Params,
    TrainState,
    cosine_schedule,
    create_network,
    create_optimizer,
    lr_factor,
    multistep_schedule,
    warmed_up,
)

Step = Callable[[TrainState, Params, steps.Batch], tuple[TrainState, steps.Metrics]]


class Stage(NamedTuple):
    """A training stage.

    Attributes:
        name: "psnr" or "gan"; also the name of its folder and of its section in the config.
        create: Creates a train state from a random key.
        placement: The sharding of the state's arrays: one for all, or a tree of them.
        step: Jitted: state (donated), frozen VGG parameters, batch -> state, metrics. The metrics
            are those of `steps` and the learning rates.
        schedules: Learning rates by their names in the metrics.
    """

    name: str
    create: Callable[[jax.Array], TrainState]
    placement: Any
    step: Any  # a `Step` that can be lowered, which JAX's types cannot say
    schedules: Mapping[str, optax.Schedule]


def create_stage(config: Config, name: str, vgg: nn.Module | None, mesh: Mesh) -> Stage:
    """Creates the stage "psnr" or "gan" for the devices of `mesh`.

    `vgg` is for the GAN stage's perceptual loss.
    """
    return psnr_stage(config, mesh) if name == "psnr" else gan_stage(config, vgg, mesh)


def psnr_stage(config: Config, mesh: Mesh) -> Stage:
    """Creates the PSNR-oriented stage for the devices of `mesh`."""
    settings = config.psnr
    generator = create_config_generator(config)
    schedule, optimizer = _optimizer(settings, settings.learning_rate)
    create = functools.partial(_create, config, settings, optimizer)
    placement = _placement(config, create, mesh)
    step = functools.partial(
        steps.psnr_step,
        generator=generator,
        optimizer=optimizer,
        scale=config.scale,
        mesh=mesh,
        placement=_tree(placement),
        recipe=create_recipe(config),
        **_picked(settings, "pixel_norm", "ema_decay", "accumulation", "unsharp", "ms_ssim_weight"),
    )
    schedules = {"lr_g": schedule}
    jitted = _jitted(config, lambda state, _, batch: step(state, batch), schedules, mesh, placement)
    return Stage("psnr", create, placement, jitted, schedules)


def gan_stage(config: Config, vgg: nn.Module | None, mesh: Mesh) -> Stage:
    """Creates the GAN stage, whose discriminator starts from random weights; see `create_stage`."""
    settings = config.gan
    generator = create_config_generator(config)
    discriminator = create_discriminator(**discriminator_settings(config.discriminator))
    schedule, optimizer = _optimizer(settings, settings.learning_rate)
    d_schedule, d_optimizer = _optimizer(settings, settings.d_learning_rate, settings.d_frozen)

    def create(key: jax.Array) -> TrainState:
        g_key, d_key = jax.random.split(key)
        hr = jnp.zeros((1, settings.hr_patch, settings.hr_patch, config.generator.out_channels))
        state = _create(config, settings, optimizer, g_key)
        return state.replace(discriminator=create_network(discriminator, d_key, hr, d_optimizer))

    placement = _placement(config, create, mesh)
    step = functools.partial(
        steps.gan_step,
        generator=generator,
        discriminator=discriminator,
        vgg=vgg,
        optimizer=optimizer,
        d_optimizer=d_optimizer,
        scale=config.scale,
        mesh=mesh,
        placement=_tree(placement),
        recipe=create_recipe(config),
        use=GanLosses(**{k: v for k, v in settings.to_dict().items() if k in GanLosses._fields}),
        **_picked(settings, "ema_decay", "accumulation", "unsharp"),
    )
    schedules = {"lr_g": schedule, "lr_d": d_schedule}
    jitted = _jitted(config, step, schedules, mesh, placement)
    return Stage("gan", create, placement, jitted, schedules)


def create_config_generator(config: Config) -> Generator:
    """Creates the config's generator."""
    return create_generator(**config.generator.to_dict(), scale=config.scale)


def load_features(config: Config) -> tuple[nn.Module | None, Params]:
    """Loads the VGG of the perceptual loss and its parameters; (None, {}) if its weight is 0.

    Raises:
        InputError: The file is missing or lacks a layer. The message says how to make it.
    """
    settings = config.gan
    if settings.perceptual_weight == 0:
        return None, {}
    how = (
        "make it by `esrgan-jax convert-vgg SRC vgg19.safetensors` and give it by "
        "--config.vgg=vgg19.safetensors, or train without by --config.gan.perceptual_weight=0"
    )
    file = path(config.vgg)
    if file is None or not Path(file).is_file():
        found = "none is given" if file is None else f"there is no file {file}"
        raise InputError(f"the perceptual loss needs converted VGG weights, but {found}; {how}")
    depth, params = load_vgg(file)
    layers = list(settings.layer_weights)
    unknown = sorted(set(layers) - set(layer_names(depth)))
    if unknown:
        known = ", ".join(layer_names(depth))
        raise InputError(f"gan.layer_weights: VGG{depth} has no {unknown}; it has {known}")
    if missing := missing_layers(params, layers, depth):
        raise InputError(f"{file} lacks {', '.join(missing)}, which {layers} need; {how}")
    dtype = jnp.dtype(settings.perceptual_dtype)
    return VGGFeatures(layers=tuple(layers), depth=depth, dtype=dtype), params


def _on_cpu(mesh: Mesh) -> bool:
    # Asked of the mesh, since programs are also compiled for devices that this machine lacks.
    return mesh.devices.flat[0].platform == "cpu"


def _placement(config: Config, create: Callable[[jax.Array], TrainState], mesh: Mesh) -> Any:
    if sharding.FSDP not in mesh.axis_names:
        return sharding.replicated(mesh)
    state = jax.eval_shape(create, jax.random.key(0))
    return sharding.placements(state, mesh, config.mesh.rules)


def _tree(placement: Any) -> TrainState | None:
    return placement if isinstance(placement, TrainState) else None


def _jitted(
    config: Config,
    step: Step,
    schedules: Mapping[str, optax.Schedule],
    mesh: Mesh,
    placement: Any,
) -> Any:
    """Jits a step. It returns the state where it takes and donates it, and values everywhere."""
    exact = config.precision == "highest"

    def step_and_rates(
        state: TrainState, vgg_params: Params, batch: steps.Batch
    ) -> tuple[TrainState, steps.Metrics]:
        # Outside, an accelerator would compute the rates only after the next step.
        networks = {"lr_g": state.generator, "lr_d": state.discriminator}
        updates = {name: network.updates for name, network in networks.items() if network}
        rates = {name: jnp.asarray(rate(updates[name])) for name, rate in schedules.items()}
        with jax.default_matmul_precision("highest") if exact else nullcontext():
            new, metrics = step(state, vgg_params, batch)
        if config.skip_nonfinite:
            new, metrics = steps.skip_nonfinite(state, new, metrics)
        return new, metrics | rates

    out = placement, sharding.replicated(mesh)
    options = compilation.LITTLE_MEMORY if _on_cpu(mesh) else None  # as fast with less memory
    return jax.jit(step_and_rates, donate_argnums=0, out_shardings=out, compiler_options=options)


def _create(
    config: Config,
    settings: Config,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
) -> TrainState:
    generator = create_config_generator(config)
    patch = settings.hr_patch // config.scale
    lr = jnp.zeros((1, patch, patch, config.generator.in_channels))
    network = create_network(generator, key, lr, optimizer)
    averaged = network.params if settings.ema_decay > 0 else None
    return TrainState(jnp.int32(0), network, None, averaged)


def _optimizer(
    settings: Config, learning_rate: float, frozen: int = 0
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    factor = lr_factor(**_picked(settings, "lr_scaling", "batch_size", "lr_batch_size"))
    if settings.schedule == "cosine":
        minimum = factor * settings.minimum
        schedule = cosine_schedule(factor * learning_rate, settings.periods, minimum)
    else:
        schedule = multistep_schedule(factor * learning_rate, settings.milestones, settings.factor)
    if settings.warmup or frozen:
        schedule = warmed_up(schedule, max(settings.warmup, 1), frozen)
    names = ("optimizer", "b1", "b2", "b3", "weight_decay", "clip_norm")
    return schedule, create_optimizer(schedule, **_picked(settings, *names))


def _picked(settings: Config, *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names}
