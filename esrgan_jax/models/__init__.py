"""The networks: pure Flax Linen modules, NHWC."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from esrgan_jax.errors import InputError
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.generator import COMPUTATION_DTYPES as COMPUTATION_DTYPES
from esrgan_jax.models.generator import Generator as Generator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet

# Fields that say how a network is computed and initialised, not what it computes.
COMPUTATION = ("dtype", "remat", "unroll", "initializer")
GENERATORS: dict[str, type[Generator]] = {"rrdb": RRDBNet, "srresnet": SRResNet}
DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {"vgg": Discriminator}


def create_generator(name: str = "rrdb", dtype: str = "float32", **fields: Any) -> Generator:
    """The generator that a config's `generator` section describes.

    Args:
        name: Of GENERATORS: "rrdb" or "srresnet".
        dtype: Computation dtype, "float32" or "bfloat16".
        **fields: Attributes of `RRDBNet` or `SRResNet`.

    Raises:
        InputError: There is no such name, field or dtype.
    """
    return _create(GENERATORS, "generator", name, dtype, fields)


def create_discriminator(name: str = "vgg", dtype: str = "float32", **fields: Any) -> nn.Module:
    """The discriminator that a config's `discriminator` section describes.

    Args:
        name: Of DISCRIMINATORS: "vgg".
        dtype: Computation dtype, "float32" or "bfloat16".
        **fields: Attributes of `Discriminator`.

    Raises:
        InputError: There is no such name, field or dtype.
    """
    return _create(DISCRIMINATORS, "discriminator", name, dtype, fields)


def generator_name(module: Generator) -> str:
    """The name by which `create_generator` makes a module of this class.

    Raises:
        InputError: It makes none.
    """
    for name, kind in GENERATORS.items():
        if type(module) is kind:
            return name
    raise InputError(
        f"{type(module).__name__} is no generator of create_generator, which has "
        f"{' and '.join(GENERATORS)}: add it to GENERATORS"
    )


def field_names(kind: Any) -> set[str]:
    """Returns the names of the fields that a Linen module's constructor takes."""
    return {field.name for field in dataclasses.fields(kind)} - {"parent", "name"}


def _create(
    kinds: Mapping[str, Callable[..., Any]], section: str, name: str, dtype: str, fields: Any
) -> Any:
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
