"""The state that a stage starts from: its newest checkpoint, given networks, or a fresh one."""

from functools import partial
from typing import Any, NamedTuple

import grain
import jax
from etils import epath

from esrgan_jax import checkpoint, sharding
from esrgan_jax.errors import InputError
from esrgan_jax.interpolation import check_same_shapes
from esrgan_jax.training.folders import path
from esrgan_jax.training.run_checkpoints import RunCheckpoints
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.stages import Stage
from esrgan_jax.training.train_state import Network, Params, TrainState


class Initial(NamedTuple):
    """Variables of the networks that a stage starts from; None: not loaded yet, or random."""

    generator: dict[str, Params] | None = None
    discriminator: dict[str, Params] | None = None


def restore_or_create(
    config: Config,
    stage: Stage,
    workdir: epath.Path,
    loaded: Initial,
    checkpoints: RunCheckpoints,
    data: grain.DatasetIterator[Any],
) -> TrainState:
    """Restores the stage's newest checkpoint, or creates a state with the networks of the config.

    Args:
        config: The run's config.
        stage: The stage.
        workdir: The run's folder.
        loaded: Those of the config's networks that are already in memory.
        checkpoints: The stage's checkpoints.
        data: A fresh Grain iterator; a checkpoint sets its position.

    Raises:
        InputError: A checkpoint or a network does not fit the config.
        RunError: A checkpoint cannot be read.
    """
    if (restored := checkpoints.restore(restore_target(config, stage), data)) is not None:
        return restored
    generator = loaded.generator or initial_generator(config, stage, workdir)
    discriminator = loaded.discriminator or initial_discriminator(config, stage)

    # One program, so that random values of a network that is given are not computed.
    @partial(jax.jit, out_shardings=stage.placement)
    def create(key: jax.Array, given: Initial) -> TrainState:
        state = stage.create(key)
        if given.generator:
            averaged = state.ema_params and given.generator["params"]
            state = state.replace(
                generator=state.generator.replace(**given.generator), ema_params=averaged
            )
        if given.discriminator:
            assert state.discriminator is not None
            state = state.replace(discriminator=state.discriminator.replace(**given.discriminator))
        return state

    mesh = jax.tree.leaves(stage.placement)[0].mesh
    given = sharding.replicate(Initial(generator, discriminator), mesh)
    return create(jax.random.key(config.seed), given)


def restore_target(config: Config, stage: Stage) -> TrainState:
    """Returns the stage's state as `jax.ShapeDtypeStruct`s with their shardings."""
    shapes = jax.eval_shape(stage.create, jax.random.key(config.seed))
    return sharding.shapes(shapes, stage.placement)


def initial_generator(
    config: Config, stage: Stage, workdir: epath.Path
) -> dict[str, Params] | None:
    """Loads the generator that a stage without checkpoints starts from; None: random weights.

    Raises:
        InputError: It is missing, or has another architecture than the config's.
    """
    model = path(config[stage.name].init_from)
    if not model and stage.name == "gan":
        model = workdir / "psnr"
        if checkpoint.find_checkpoint(model) is None:
            raise InputError(
                f"the GAN stage starts from a PSNR-oriented generator, and {model} has none: "
                "train --config.stage=psnr first, or give one by --config.gan.init_from=MODEL"
            )
    if not model:
        return None
    module, variables = checkpoint.load_generator(model)
    if module.scale != config.scale:
        raise InputError(f"{model}: its scale is {module.scale}, the config's {config.scale}")
    network = jax.eval_shape(stage.create, jax.random.key(0)).generator
    claim = f"{model} is not the config's generator (see --config.generator)"
    return _checked(network, variables, claim)


def initial_discriminator(config: Config, stage: Stage) -> dict[str, Params] | None:
    """Loads the discriminator that a GAN stage starts from; None: random weights.

    Raises:
        InputError: It is missing, or has another architecture than the config's.
    """
    model = path(config.gan.d_init_from) if stage.name == "gan" else None
    if not model:
        return None
    fields, variables = checkpoint.load_discriminator(model)
    network = jax.eval_shape(stage.create, jax.random.key(0)).discriminator
    assert network is not None
    claim = f"{model} is not the config's discriminator"
    for name, found in fields.items():
        section = "gan" if name == "hr_patch" else "discriminator"
        wanted = config[section].get(name, found)
        if found != wanted:
            raise InputError(
                f"{claim}: its {name} is {found}, the config's {wanted}; "
                f"--config.{section}.{name}={found} would fit"
            )
    return _checked(network, variables, claim)


def _checked(network: Network, variables: dict[str, Params], claim: str) -> dict[str, Params]:
    """Returns the variables; InputError if their shapes are not the network's."""
    try:
        check_same_shapes({"params": network.params, "batch_stats": network.batch_stats}, variables)
    except InputError as error:
        raise InputError(f"{claim}: {error}") from None
    return variables
