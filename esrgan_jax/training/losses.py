"""The losses of the paper (§3.2, §3.3): pixel, perceptual, GAN and relativistic average GAN.

Logits have any shape: one for each image, (N, 1), or one for each pixel, (N, H, W, 1). Every mean
is over all elements of the arrays. In a step that is jitted over a sharded batch, these are means
over the global batch, including the two means of the relativistic loss. PyTorch's data parallelism
uses the means of each device.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

LossParts = dict[str, jax.Array]  # the losses by their names in logs


class GanLosses(NamedTuple):
    """The losses of the GAN stage and their weights (paper Eq. 3).

    Attributes:
        pixel_weight: Weight of the pixel loss.
        perceptual_weight: Weight of the perceptual loss.
        gan_weight: Weight of the generator's GAN loss.
        layer_weights: Weight of each VGG layer in the perceptual loss.
        pixel_norm: "l1" or "mse", of the pixel loss.
        perceptual_norm: "l1" or "mse", of the perceptual loss.
        relativistic: True for RaGAN, False for the standard GAN losses.
        stop_means: See `ragan_discriminator_losses`.
    """

    pixel_weight: float
    perceptual_weight: float
    gan_weight: float
    layer_weights: Mapping[str, float]
    pixel_norm: str = "l1"
    perceptual_norm: str = "l1"
    relativistic: bool = True
    stop_means: bool = False


def generator_losses(
    use: GanLosses,
    images: tuple[jax.Array, jax.Array],
    features: tuple[Mapping[str, jax.Array], Mapping[str, jax.Array]] | None,
    fake: jax.Array,
    real: jax.Array | None,
) -> tuple[jax.Array, LossParts]:
    """Returns the generator's weighted sum of losses, and each loss.

    Args:
        use: The losses and their weights.
        images: SR and HR, (N, H, W, C).
        features: VGG features of SR and HR, by layer; None leaves the perceptual loss out.
        fake: The discriminator's logits of SR, of any shape.
        real: Those of HR; None for the standard GAN loss, which has no use for them.

    Returns:
        The sum, and {"l_g_pix", "l_g_percep", "l_g_gan", "l_g_total"}, all but the sum unweighted.
    """
    parts = {"l_g_pix": pixel_loss(*images, use.pixel_norm)}
    total = use.pixel_weight * parts["l_g_pix"]
    if features is not None:
        loss = perceptual_loss(*features, use.layer_weights, use.perceptual_norm)
        parts["l_g_percep"] = loss
        total += use.perceptual_weight * loss
    parts["l_g_gan"] = (
        gan_generator_loss(fake) if real is None else ragan_generator_loss(real, fake)
    )
    total += use.gan_weight * parts["l_g_gan"]
    return total, parts | {"l_g_total": total}


def discriminator_losses(
    use: GanLosses, logits: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, LossParts]:
    """Returns the discriminator's sum of losses, and each loss.

    Args:
        use: The losses.
        logits: The discriminator's logits of SR and HR, of any shape.

    Returns:
        The sum, and {"l_d_real", "l_d_fake", "l_d_total", "out_d_real", "out_d_fake"}; the last two
        are mean logits.
    """
    fake, real = logits
    l_d_real, l_d_fake = (
        ragan_discriminator_losses(real, fake, use.stop_means)
        if use.relativistic
        else gan_discriminator_losses(real, fake)
    )
    parts = {"l_d_real": l_d_real, "l_d_fake": l_d_fake, "l_d_total": l_d_real + l_d_fake}
    parts |= {"out_d_real": jnp.mean(real), "out_d_fake": jnp.mean(fake)}
    return parts["l_d_total"], parts


def pixel_loss(sr: jax.Array, hr: jax.Array, norm: str = "l1") -> jax.Array:
    """Returns the mean absolute ("l1") or squared ("mse") difference of images or features."""
    difference = sr.astype(jnp.float32) - hr.astype(jnp.float32)
    return jnp.mean({"l1": jnp.abs, "mse": jnp.square}[norm](difference))


def perceptual_loss(
    sr_features: Mapping[str, jax.Array],
    hr_features: Mapping[str, jax.Array],
    layer_weights: Mapping[str, float],
    norm: str = "l1",
) -> jax.Array:
    """Returns the weighted sum of the layers' `pixel_loss` on features (paper §3.3)."""
    losses = [
        weight * pixel_loss(sr_features[layer], hr_features[layer], norm)
        for layer, weight in layer_weights.items()
    ]
    return jnp.sum(jnp.stack(losses))


def real_loss(logits: jax.Array) -> jax.Array:
    """Returns the mean of -log sigmoid(logits): binary cross entropy against "real"."""
    return -jnp.mean(jax.nn.log_sigmoid(logits.astype(jnp.float32)))


def fake_loss(logits: jax.Array) -> jax.Array:
    """Returns the mean of -log(1 - sigmoid(logits)), finite for all finite logits."""
    return -jnp.mean(jax.nn.log_sigmoid(-logits.astype(jnp.float32)))


def gan_generator_loss(fake: jax.Array) -> jax.Array:
    """Returns the standard, non-saturating generator loss for raw logits of SR images."""
    return real_loss(fake)


def gan_discriminator_losses(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the standard discriminator losses on HR and on SR; their sum is minimised."""
    return real_loss(real), fake_loss(fake)


def ragan_generator_loss(real: jax.Array, fake: jax.Array) -> jax.Array:
    """Returns the relativistic average generator loss (paper Eq. 2), halved as by the authors.

    Args:
        real: Raw logits of HR images, which should need no gradient.
        fake: Raw logits of SR images; the gradient also goes through their mean.
    """
    return (fake_loss(real - jnp.mean(fake)) + real_loss(fake - jnp.mean(real))) / 2


def ragan_discriminator_losses(
    real: jax.Array, fake: jax.Array, stop_means: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Returns the relativistic average discriminator losses (paper Eq. 1) on HR and SR, halved.

    Args:
        real: Raw logits of HR images.
        fake: Raw logits of SR images.
        stop_means: No gradient through the two means, as in BasicSR since August 2020. The values
            are the same.
    """
    mean_real, mean_fake = jnp.mean(real), jnp.mean(fake)
    if stop_means:
        mean_real, mean_fake = jax.lax.stop_gradient((mean_real, mean_fake))
    return real_loss(real - mean_fake) / 2, fake_loss(fake - mean_real) / 2
