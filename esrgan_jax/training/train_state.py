"""TrainState and the optimisers and schedules that update it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import struct

from esrgan_jax.models.generator import Generator, Params
from esrgan_jax.training.adan import scale_by_adan


class Network(struct.PyTreeNode):
    """A network in training: parameters, running batch statistics ({} if none), Adam's state."""

    params: Params
    batch_stats: Params
    opt_state: optax.OptState

    @property
    def updates(self) -> jax.Array:
        """Updates done, by which the schedules count; skipped steps are none."""
        (_, count), *_ = optax.tree.get_all_with_path(self.opt_state, "count")
        return count

    def updated(
        self, gradients: Params, batch_stats: Params, optimizer: optax.GradientTransformation
    ) -> "Network":
        """Returns the network after one optimiser update."""
        updates, opt_state = optimizer.update(gradients, self.opt_state, self.params)
        params = optax.apply_updates(self.params, updates)
        return Network(params=params, batch_stats=batch_stats, opt_state=opt_state)


class TrainState(struct.PyTreeNode):
    """The whole state of a run: what is saved, donated and sharded.

    Attributes:
        step: Steps done, int32, including skipped ones.
        generator: The generator in training.
        discriminator: The discriminator, or None in the PSNR stage.
        ema_params: Exponential moving average of the generator's parameters, or None.
    """

    step: jax.Array
    generator: Network
    discriminator: Network | None = None
    ema_params: Params | None = None

    def generator_variables(self) -> dict[str, Params]:
        """Returns the generator's variables, with the averaged parameters if there are any."""
        params = self.generator.params if self.ema_params is None else self.ema_params
        return {"params": params, "batch_stats": self.generator.batch_stats}


def create_network(
    module: nn.Module | Generator,
    key: jax.Array,
    image: jax.Array,
    optimizer: optax.GradientTransformation,
) -> Network:
    """Creates a network with random parameters; `image` is any (N, H, W, C) of the right size."""
    variables = module.init(key, image)
    params = variables["params"]
    return Network(params, variables.get("batch_stats", {}), optimizer.init(params))


OPTIMIZERS = ("adam", "adamw", "adan")


def create_optimizer(
    learning_rate: optax.Schedule,
    *,
    optimizer: str = "adam",
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float = 0.99,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Creates Adam, AdamW or Adan with PyTorch's epsilon of 1e-8.

    Args:
        learning_rate: A schedule of the number of updates done.
        optimizer: One of OPTIMIZERS.
        b1: Decay of the mean of gradients.
        b2: Decay of the mean of their squares; of Adan, of their changes.
        b3: Of Adan: decay of the mean of squares.
        weight_decay: Of AdamW and Adan: times the learning rate, the part of each parameter that an
            update takes away.
        clip_norm: If above 0, the largest global norm of the gradients.
    """
    if optimizer == "adan":
        chosen = optax.chain(
            scale_by_adan(b1, b2, b3),
            optax.add_decayed_weights(weight_decay),
            optax.scale_by_learning_rate(learning_rate),
        )
    elif optimizer == "adamw":
        chosen = optax.adamw(learning_rate, b1, b2, weight_decay=weight_decay)
    else:
        chosen = optax.adam(learning_rate, b1, b2)
    return optax.chain(optax.clip_by_global_norm(clip_norm), chosen) if clip_norm > 0 else chosen


LR_SCALINGS = ("none", "linear", "sqrt")


def lr_factor(lr_scaling: str, batch_size: int, lr_batch_size: int) -> float:
    """Returns by how much learning rates are larger than those of another batch size.

    Args:
        lr_scaling: One of LR_SCALINGS. "linear" is for SGD (arXiv 1706.02677), "sqrt" for Adam
            (arXiv 2205.10287).
        batch_size: Of the training.
        lr_batch_size: That the learning rates are meant for.
    """
    ratio = batch_size / lr_batch_size
    return {"none": 1.0, "linear": ratio, "sqrt": ratio**0.5}[lr_scaling]


def warmed_up(schedule: optax.Schedule, steps: int, frozen: int = 0) -> optax.Schedule:
    """Returns a schedule that is 0 for `frozen` steps, and rises to its rates in the next `steps`.

    It rises linearly, as in BasicSR. With `steps` = 1 it has its rates at once.
    """
    return lambda count: schedule(count) * jnp.clip((jnp.asarray(count) - frozen + 1) / steps, 0, 1)


def multistep_schedule(
    learning_rate: float, milestones: Sequence[int], factor: float = 0.5
) -> optax.Schedule:
    """Returns a schedule of `learning_rate`, multiplied by `factor` at each milestone."""
    return optax.piecewise_constant_schedule(learning_rate, dict.fromkeys(milestones, factor))


def cosine_schedule(
    learning_rate: float, periods: Sequence[int], minimum: float = 0.0
) -> optax.Schedule:
    """Returns a schedule of cosines from `learning_rate` to `minimum`, restarted after each period.

    A period begins with the step after the minimum of the previous one, as in BasicSR.
    """
    lengths = np.asarray(periods)
    ends = np.cumsum(lengths)

    def schedule(count: Any) -> Any:
        index = jnp.minimum(jnp.searchsorted(ends, count), len(ends) - 1)
        done = (count - jnp.take(ends - lengths, index)) / jnp.take(lengths, index)
        return (
            minimum + (learning_rate - minimum) * (1 + jnp.cos(jnp.pi * jnp.minimum(done, 1))) / 2
        )

    return schedule


def moving_average(
    average: Params | None, params: Params, decay: float, step: jax.Array | int
) -> Params | None:
    """Returns the exponential moving average of the parameters after `step` steps, or None.

    It is d · average + (1 - d) · params with d = min(decay, (1 + step) / (10 + step)), so that in a
    short run the average covers about the last ninth. With a constant decay of 0.999, a third of
    the average would still be the initial parameters after 1000 steps.
    """
    if average is None:
        return None
    step = jnp.asarray(step, jnp.float32)
    decay_now = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, average, 1 - decay_now)
