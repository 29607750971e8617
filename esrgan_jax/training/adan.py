"""Adan, adaptive Nesterov momentum (Xie et al. 2022, arXiv 2208.06677)."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct


class AdanState(struct.PyTreeNode):
    """Moments of Adan, each with the structure and shapes of the parameters.

    Attributes:
        count: Updates done, int32.
        mean: Average of the gradients.
        change: Average of their changes from one update to the next.
        square: Average of the squares of the gradients that Nesterov's momentum looks ahead to.
        last: Gradients of the last update.
    """

    count: jax.typing.ArrayLike
    mean: optax.Updates
    change: optax.Updates
    square: optax.Updates
    last: optax.Updates


def scale_by_adan(
    b1: float = 0.98, b2: float = 0.92, b3: float = 0.99, eps: float = 1e-8
) -> optax.GradientTransformation:
    """Returns Adan's update of unit learning rate, without weight decay.

    It is that of the authors' code, github.com/sail-sg/Adan, whose decays are one minus those of
    algorithm 1 of the paper. `optax.adan` adds the changes of gradients times `1 - b2`, where both
    have the decay itself: 0.08 instead of 0.92.

    Args:
        b1: Decay of the average of gradients.
        b2: Decay of the average of their changes, by which these are also multiplied.
        b3: Decay of the average of squares.
        eps: Added to the root of the squares.
    """

    def init(params: optax.Params) -> Any:
        zeros = optax.tree.zeros_like(params)
        return AdanState(
            count=jnp.zeros((), jnp.int32), mean=zeros, change=zeros, square=zeros, last=zeros
        )

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, Any]:
        del params
        gradients = updates
        # The first gradient is not a change.
        changes = jax.tree.map(
            lambda g, last: jnp.where(state.count == 0, 0, g - last), gradients, state.last
        )
        ahead = jax.tree.map(lambda g, change: g + b2 * change, gradients, changes)
        mean = optax.tree.update_moment(gradients, state.mean, b1, 1)
        change = optax.tree.update_moment(changes, state.change, b2, 1)
        square = optax.tree.update_moment(ahead, state.square, b3, 2)
        count = optax.safe_increment(state.count)
        corrected = (
            optax.tree.bias_correction(moment, decay, count)
            for moment, decay in ((mean, b1), (change, b2), (square, b3))
        )
        updates = jax.tree.map(lambda m, v, n: (m + b2 * v) / (jnp.sqrt(n) + eps), *corrected)
        return updates, AdanState(
            count=count, mean=mean, change=change, square=square, last=gradients
        )

    return optax.GradientTransformation(init, update)
