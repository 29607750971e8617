"""Counts the operations of the work from the networks themselves.

Counted are the multiplications and additions of convolutions and matrix products, the zeros of the
padding included, as everybody counts them; a multiply-accumulate (MAC) is two operations. All else
in these networks is below a hundredth of that. What `conv.convolve_upsampled` saves is counted,
too: rates of all programs refer to the network as it is published.
"""

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend import core

from esrgan_jax.models import conv

# Passes through a network as multiples of its forward pass: a gradient with respect to the
# parameters, or to the input, counts as one more each.
#
# The generator: forward and both gradients.
GENERATOR_PASSES = 3
# The feature extractor is frozen: forward for SR and for HR, and the gradient to SR.
VGG_PASSES = 3
# The discriminator as BasicSR has it. For the generator: forward for HR and for SR and the gradient
# to SR, 3. For itself: forward for HR, for SR, for SR once more in front of the second `backward`,
# and both gradients of both, 7. Our step needs 7 of these 10, since what is shared is computed
# once, and the code of 2019 needs 9; all rates refer to this same work.
DISCRIMINATOR_PASSES = 10


def count_macs(function: Callable[..., Any], *arguments: Any) -> int:
    """Counts the multiply-accumulates of one call without computing it.

    Of forward passes, that is: the gradient of a strided convolution is one over an image spread
    with zeros, and those would count.

    Args:
        function: Of arrays and pytrees, traceable by JAX.
        *arguments: Arrays or `jax.ShapeDtypeStruct`s.
    """
    return _macs(jax.make_jaxpr(function)(*arguments).jaxpr)


def forward_macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Counts the multiply-accumulates of one forward pass of a Linen module over (N, H, W, C)."""
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), x)
    with mock.patch.object(conv, "convolve_upsampled", _in_two_steps):
        return count_macs(lambda v, x: module.apply(v, x, mutable=["batch_stats"]), variables, x)


def _in_two_steps(x: jax.Array, kernel: jax.Array, factor: int) -> jax.Array:
    return conv.convolve(x.repeat(factor, axis=1).repeat(factor, axis=2), kernel)


def psnr_step_flop(generator: nn.Module, batch: int, lr_patch: int) -> int:
    """Counts the operations of one step of the PSNR stage."""
    return 2 * batch * GENERATOR_PASSES * forward_macs(generator, (1, lr_patch, lr_patch, 3))


def gan_step_flop(
    generator: nn.Module, discriminator: nn.Module, vgg: nn.Module | None, batch: int, hr_patch: int
) -> int:
    """Counts the operations of one GAN step in BasicSR's form, see DISCRIMINATOR_PASSES."""
    hr = (1, hr_patch, hr_patch, 3)
    scale: int = getattr(generator, "scale")  # noqa: B009 - of the generators alone
    macs = DISCRIMINATOR_PASSES * forward_macs(discriminator, hr)
    macs += VGG_PASSES * forward_macs(vgg, hr) if vgg else 0
    return 2 * batch * macs + psnr_step_flop(generator, batch, hr_patch // scale)


def _macs(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            rows = kernel[params["dimension_numbers"].rhs_spec[0]]
            total += equation.outvars[0].aval.size * (math.prod(kernel) // rows)
        elif name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        elif name == "cond":  # the forms of one operation for different platforms
            total += max(map(_macs, _inner(params)), default=0)
        else:
            turns = params["length"] if name == "scan" else 1
            total += turns * sum(_macs(inner) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> list[Any]:
    """Returns the programs inside a loop or a call."""
    leaves = jax.tree.leaves(
        list(params.values()), is_leaf=lambda x: isinstance(x, (core.Jaxpr, core.ClosedJaxpr))
    )
    return [
        leaf.jaxpr if isinstance(leaf, core.ClosedJaxpr) else leaf
        for leaf in leaves
        if isinstance(leaf, (core.Jaxpr, core.ClosedJaxpr))
    ]
