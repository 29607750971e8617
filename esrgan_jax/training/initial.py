"""What a stage without checkpoints of its own starts from, checked against the config."""

import jax
from etils import epath

from esrgan_jax import checkpoint
from esrgan_jax.errors import InputError
from esrgan_jax.interpolation import check_same_shapes
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.settings import path
from esrgan_jax.training.stages import Stage
from esrgan_jax.training.train_state import Network, Params


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
