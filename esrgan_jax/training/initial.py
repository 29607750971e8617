"""The state that a stage starts from: its newest checkpoint, given networks, or a fresh one."""

from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh

from esrgan_jax import checkpoint, compilation, sharding
from esrgan_jax.errors import InputError
from esrgan_jax.interpolation import check_same_shapes
from esrgan_jax.training.run_checkpoints import RunCheckpoints
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.settings import path
from esrgan_jax.training.stages import Stage
from esrgan_jax.training.train_state import Network, Params, TrainState


def restore_or_create(
    config: Config,
    stage: Stage,
    workdir: epath.Path,
    checkpoints: RunCheckpoints,
    data: Any,
    mesh: Mesh,
) -> TrainState:
    """The stage's newest checkpoint, or a fresh state with the networks that the config names.

    Args:
        config: The run's config.
        stage: The stage.
        workdir: The run's folder.
        checkpoints: Of the stage.
        data: A fresh Grain iterator; a checkpoint sets its position.
        mesh: The devices; the state is replicated over them.

    Raises:
        InputError: A checkpoint or a network does not fit the config.
        RunError: A checkpoint cannot be read.
    """
    if (restored := checkpoints.restore(restore_target(config, stage, mesh), data)) is not None:
        return restored
    key, placement = jax.random.key(config.seed), sharding.replicated(mesh)
    options = compilation.run_once_options()
    state = jax.jit(stage.create, out_shardings=placement, compiler_options=options)(key)
    if variables := initial_generator(config, stage, workdir):
        generator = state.generator.replace(**jax.device_put(variables, placement))
        # Not the generator's own buffers, since the step donates both.
        averaged = state.ema_params and jax.device_put(variables["params"], placement)
        state = state.replace(generator=generator, ema_params=averaged)
    if variables := initial_discriminator(config, stage):
        assert state.discriminator is not None
        discriminator = state.discriminator.replace(**jax.device_put(variables, placement))
        state = state.replace(discriminator=discriminator)
    return state


def restore_target(config: Config, stage: Stage, mesh: Mesh) -> TrainState:
    """The stage's state as `jax.ShapeDtypeStruct`s, replicated over the mesh."""
    placement = sharding.replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placement),
        jax.eval_shape(stage.create, jax.random.key(config.seed)),
    )


def initial_generator(
    config: Config, stage: Stage, workdir: epath.Path
) -> dict[str, Params] | None:
    """Variables of the generator that a stage without checkpoints starts from; None: from scratch.

    Raises:
        InputError: It is not there, or not of the config's architecture.
    """
    model = path(config[stage.name].init_from)
    if not model and stage.name == "gan":
        model = workdir / "psnr"
        if checkpoint.find_checkpoint(model) is None:
            raise InputError(
                f"the GAN stage starts from a PSNR-oriented generator, and {model} holds none: "
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
    """Variables of the discriminator that a GAN stage starts from; None: from scratch.

    Raises:
        InputError: It is not there, or not of the config's architecture.
    """
    model = path(config.gan.d_init_from) if stage.name == "gan" else None
    if not model:
        return None
    fields, variables = checkpoint.load_discriminator(model)
    network = jax.eval_shape(stage.create, jax.random.key(0)).discriminator
    assert network is not None
    wanted = {
        "gan.hr_patch": config.gan.hr_patch,
        "discriminator.num_features": config.discriminator.num_features,
        "discriminator.use_bias": config.discriminator.use_bias,
    }
    for key, value in wanted.items():
        found = fields[key.rpartition(".")[2]]
        if found != value:
            raise InputError(
                f"{model} is not the config's discriminator: its {key.rpartition('.')[2]} is "
                f"{found}, the config's {value}; --config.{key}={found} would fit"
            )
    return _checked(network, variables, f"{model} is not the config's discriminator")


def _checked(network: Network, variables: dict[str, Params], claim: str) -> dict[str, Params]:
    """The variables, if they are of the network's shapes."""
    try:
        check_same_shapes({"params": network.params, "batch_stats": network.batch_stats}, variables)
    except InputError as error:
        raise InputError(f"{claim}: {error}") from None
    return variables
