"""The programs of training and upscaling with the shapes of their arguments, to be compiled."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, Sharding

from benchmarks import flops
from esrgan_jax import sharding
from esrgan_jax.imresize import margin
from esrgan_jax.models import create_discriminator
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.training.inputs import patch_side
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.setting_rules import discriminator_settings
from esrgan_jax.training.stages import create_config_generator, create_stage
from esrgan_jax.upscaling.tile_step import upscale_step


class Program(NamedTuple):
    """A program for the devices of a mesh.

    Attributes:
        lowered: What can be compiled, as by `jax.jit(…).lower(…)`.
        case: What it does, for the reader.
        flop: Its operations on all devices, counted in the networks.
        parameter_bytes: Of the networks that it trains or applies.
    """

    lowered: Any
    case: dict[str, Any]
    flop: int
    parameter_bytes: int


def training_step(config: Config, mesh: Mesh, name: str) -> Program:
    """Lowers the step of the stage "psnr" or "gan"."""
    settings, vgg, frozen = config[name], None, {}
    if name == "gan" and settings.perceptual_weight:
        vgg = VGGFeatures(tuple(settings.layer_weights))
        image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        frozen = jax.eval_shape(vgg.init, jax.random.key(0), image)["params"]
    stage = create_stage(config, name, vgg, mesh)
    state = jax.eval_shape(stage.create, jax.random.key(0))
    batch, patch, lr_patch = (
        settings.batch_size,
        settings.hr_patch,
        settings.hr_patch // config.scale,
    )
    side, around = patch_side(config, name)
    sides = {"hr": side + 2 * (margin(config.scale) if around is None else around)}
    if config.data.train_lr is not None:
        sides = {"hr": patch, "lr": lr_patch}
    images = {
        key: jax.ShapeDtypeStruct((batch, side, side, 3), jnp.uint8) for key, side in sides.items()
    }
    everywhere = sharding.replicated(mesh)
    lowered = stage.step.lower(
        sharding.shapes(state, stage.placement),
        _placed(frozen, everywhere),
        _placed(images, sharding.batched(mesh)),
    )
    generator = create_config_generator(config)
    if name == "psnr":
        flop = flops.psnr_step_flop(generator, batch, lr_patch)
    else:
        discriminator = create_discriminator(**discriminator_settings(config.discriminator))
        flop = flops.gan_step_flop(generator, discriminator, vgg, batch, patch)
    case = {"hr_patch": patch, "batch": batch, "dtype": config.generator.dtype}
    case |= {"remat": True} if config.generator.get("remat") else {}
    networks = [network for network in (state.generator, state.discriminator) if network]
    return Program(lowered, case, flop, sum(_size(network.params) for network in networks))


def upscaling(config: Config, mesh: Mesh, tile: int, batch: int) -> Program:
    """Lowers the upscaling of `batch` full square tiles of 8 bits a device, in bfloat16."""
    generator = create_config_generator(config).clone(dtype=jnp.dtype("bfloat16"))
    shape, split = (batch * mesh.size, tile, tile, generator.in_channels), sharding.batched(mesh)
    image = jax.ShapeDtypeStruct((1, 8, 8, generator.in_channels), jnp.float32)
    variables = jax.eval_shape(generator.init, jax.random.key(0), image)
    lowered = upscale_step.lower(
        generator,
        _placed(variables, sharding.replicated(mesh)),
        jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=split),
        jax.ShapeDtypeStruct((shape[0], 2), jnp.int32, sharding=split),
        border="full",
        dtype="uint8",
    )
    case = {"tile": tile, "batch": shape[0], "dtype": "bfloat16"}
    return Program(lowered, case, 2 * flops.forward_macs(generator, shape), _size(variables))


def _placed(tree: Any, where: Sharding) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), tree)


def _size(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
