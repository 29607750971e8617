"""The networks: pure Flax Linen modules, pictures in NHWC."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from esrgan_jax.errors import InputError
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet

DTYPES = ("float32", "bfloat16")


def create_generator(name: str = "rrdb", dtype: str = "float32", **fields: Any) -> nn.Module:
    """The generator that a config's `generator` section describes.

    Args:
        name: "rrdb" or "srresnet".
        dtype: Computation dtype, "float32" or "bfloat16".
        **fields: Attributes of `RRDBNet` or `SRResNet`.
    """
    modules: dict[str, type[nn.Module]] = {"rrdb": RRDBNet, "srresnet": SRResNet}
    if name not in modules:
        raise InputError(f"generator.name is {name!r}: choose {' or '.join(modules)}")
    known = set(modules[name].__dataclass_fields__) - {"parent", "name"}
    if unknown := sorted(fields.keys() - known):
        raise InputError(
            f"generator: {name} has no {', '.join(unknown)}; it takes {', '.join(sorted(known))}"
        )
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}: choose {' or '.join(DTYPES)}")
    return modules[name](dtype=jnp.dtype(dtype), **fields)
