"""Generators and discriminators by name: pure Flax Linen modules, NHWC."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
from flax import linen as nn

from esrgan_jax.errors import InputError
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.generator import COMPUTATION_DTYPES as COMPUTATION_DTYPES
from esrgan_jax.models.generator import Generator as Generator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet
from esrgan_jax.models.unet_discriminator import UNetDiscriminator

# Fields that do not change what a trained network computes.
COMPUTATION = ("dtype", "remat", "unroll", "initializer")
GENERATORS: dict[str, type[Generator]] = {"rrdb": RRDBNet, "srresnet": SRResNet}
Module = TypeVar("Module")
# Besides `settings`, each says of the patches that it takes: `size_multiple`, the number that their
# sides are multiples of; `fixed_size`, whether its parameters fit patches of one size only; and
# `batch_norm`, whether it normalises over the batch, down to patches of one value each.
DISCRIMINATORS = {"vgg": Discriminator, "unet": UNetDiscriminator}


def create_generator(name: str = "rrdb", dtype: str = "float32", **fields: Any) -> Generator:
    """Creates the generator that a config's `generator` section describes.

    Args:
        name: A key of GENERATORS: "rrdb" or "srresnet".
        dtype: Computation dtype, "float32" or "bfloat16".
        **fields: Attributes of `RRDBNet` or `SRResNet`.

    Raises:
        InputError: The name, a field or the dtype is unknown.
    """
    return _create(GENERATORS, "generator", name, dtype, fields)


def create_discriminator(name: str = "vgg", dtype: str = "float32", **fields: Any) -> nn.Module:
    """Creates the discriminator that a config's `discriminator` section describes.

    Args:
        name: A key of DISCRIMINATORS: "vgg" or "unet".
        dtype: Computation dtype, "float32" or "bfloat16".
        **fields: Attributes of `Discriminator` or `UNetDiscriminator`.

    Raises:
        InputError: The name, a field or the dtype is unknown.
    """
    return _create(DISCRIMINATORS, "discriminator", name, dtype, fields)


def generator_name(module: Generator) -> str:
    """Returns the name under which `create_generator` creates modules of this class.

    Raises:
        InputError: The class is not in GENERATORS.
    """
    for name, kind in GENERATORS.items():
        if type(module) is kind:
            return name
    raise InputError(
        f"{type(module).__name__} is not in models.GENERATORS, which has "
        f"{' and '.join(GENERATORS)}: add it there"
    )


def field_names(kind: Any) -> set[str]:
    """Returns the names of the fields that a Linen module's constructor takes."""
    return {field.name for field in dataclasses.fields(kind)} - {"parent", "name"}


def _create(
    kinds: Mapping[str, Callable[..., Module]],
    section: str,
    name: str,
    dtype: str,
    fields: dict[str, Any],
) -> Module:
    if name not in kinds:
        raise InputError(f"{section}.name is {name!r}: choose {' or '.join(kinds)}")
    known = field_names(kinds[name])
    if unknown := sorted(fields.keys() - known):
        raise InputError(
            f"{section}: {name} has no {', '.join(unknown)}; it takes {', '.join(sorted(known))}"
        )
    if dtype not in COMPUTATION_DTYPES:
        raise InputError(f"dtype is {dtype!r}: choose {' or '.join(COMPUTATION_DTYPES)}")
    return kinds[name](dtype=jnp.dtype(dtype), **fields)
