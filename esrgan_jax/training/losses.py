"""The losses of the paper (§3.2, §3.3): pixel, perceptual, GAN and relativistic average GAN.

Every mean is over all elements of the arrays given. In a step that is jitted over a sharded batch
these are means over the global batch, also the two means inside the relativistic loss, where
PyTorch's data parallelism takes each device's own.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def pixel_loss(sr: jax.Array, hr: jax.Array, norm: str = "l1") -> jax.Array:
    """Mean absolute ("l1") or squared ("mse") difference, of pictures or of features."""
    difference = sr.astype(jnp.float32) - hr.astype(jnp.float32)
    return jnp.mean({"l1": jnp.abs, "mse": jnp.square}[norm](difference))


def perceptual_loss(
    sr_features: Mapping[str, jax.Array],
    hr_features: Mapping[str, jax.Array],
    layer_weights: Mapping[str, float],
    norm: str = "l1",
) -> jax.Array:
    """Sum over the layers of weight times the features' `pixel_loss` (paper §3.3)."""
    losses = [
        weight * pixel_loss(sr_features[layer], hr_features[layer], norm)
        for layer, weight in layer_weights.items()
    ]
    return jnp.sum(jnp.stack(losses))


def real_loss(logits: jax.Array) -> jax.Array:
    """Mean of -log sigmoid(logits): binary cross entropy against "real"."""
    return -jnp.mean(jax.nn.log_sigmoid(logits.astype(jnp.float32)))


def fake_loss(logits: jax.Array) -> jax.Array:
    """Mean of -log(1 - sigmoid(logits)), finite for logits of any size."""
    return -jnp.mean(jax.nn.log_sigmoid(-logits.astype(jnp.float32)))


def gan_generator_loss(fake: jax.Array) -> jax.Array:
    """The standard, non-saturating generator loss for raw logits of SR pictures."""
    return real_loss(fake)


def gan_discriminator_losses(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The standard discriminator losses (of HR, of SR); their sum is minimised."""
    return real_loss(real), fake_loss(fake)


def ragan_generator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Relativistic average generator loss (paper Eq. 2), halved as in the authors' code.

    Args:
        real: Raw logits (N, 1) of HR pictures, which no gradient should reach.
        fake: Raw logits (N, 1) of SR pictures; the gradient goes through their mean as well.
    """
    return (fake_loss(real - jnp.mean(fake)) + real_loss(fake - jnp.mean(real))) / 2


def ragan_discriminator_losses(
    real: jax.Array, fake: jax.Array, stop_means: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Relativistic average discriminator losses (paper Eq. 1): of HR, of SR; each halved.

    Args:
        real: Raw logits (N, 1) of HR pictures.
        fake: Raw logits (N, 1) of SR pictures.
        stop_means: No gradient through the two means, as BasicSR has it since August 2020. The
            values are the same.
    """
    mean_real, mean_fake = jnp.mean(real), jnp.mean(fake)
    if stop_means:
        mean_real, mean_fake = jax.lax.stop_gradient((mean_real, mean_fake))
    return real_loss(real - mean_fake) / 2, fake_loss(fake - mean_real) / 2
