"""Losses: pixel, perceptual, GAN and relativistic average GAN (paper §3.2, §3.3), MS-SSIM, LDL.

Logits have any shape: one for each image, (N, 1), or one for each pixel, (N, H, W, 1). Every mean
is over all elements of the arrays. In a step that is jitted over a sharded batch, these are means
over the global batch, including the two means of the relativistic loss. PyTorch's data parallelism
uses the means of each device.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from esrgan_jax.training.artifact_map import artifact_map
from esrgan_jax.training.ms_ssim import ms_ssim

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
        ms_ssim_weight: Weight of 1 - MS-SSIM, see `ms_ssim`.
        ldl_weight: Weight of `ldl_loss`.
    """

    pixel_weight: float
    perceptual_weight: float
    gan_weight: float
    layer_weights: Mapping[str, float]
    pixel_norm: str = "l1"
    perceptual_norm: str = "l1"
    relativistic: bool = True
    stop_means: bool = False
    ms_ssim_weight: float = 0.0
    ldl_weight: float = 0.0


def image_losses(
    sr: jax.Array,
    hr: Mapping[str, jax.Array],
    pixel_norm: str = "l1",
    pixel_weight: float = 1.0,
    ms_ssim_weight: float = 0.0,
) -> tuple[jax.Array, LossParts]:
    """Returns the weighted sum of the losses that need images alone, and each unweighted loss.

    Args:
        sr: (N, H, W, C).
        hr: {"pixel", "ms_ssim"}: what each loss compares with, of the shape of SR.
        pixel_norm: "l1" or "mse".
        pixel_weight: Weight of the pixel loss.
        ms_ssim_weight: Weight of 1 - MS-SSIM; 0 leaves it out.

    Returns:
        The sum, and {"l_g_pix"}, with "l_g_ms_ssim" if it has a weight.
    """
    parts = {"l_g_pix": pixel_loss(sr, hr["pixel"], pixel_norm)}
    total = pixel_weight * parts["l_g_pix"]
    if ms_ssim_weight:
        parts["l_g_ms_ssim"] = 1 - ms_ssim(sr, hr["ms_ssim"])
        total += ms_ssim_weight * parts["l_g_ms_ssim"]
    return total, parts


def generator_losses(
    use: GanLosses,
    sr: jax.Array,
    hr: Mapping[str, jax.Array],
    features: tuple[Mapping[str, jax.Array], Mapping[str, jax.Array]] | None,
    fake: jax.Array,
    real: jax.Array | None,
    averaged: jax.Array | None = None,
) -> tuple[jax.Array, LossParts]:
    """Returns the generator's weighted sum of losses, and each loss.

    Args:
        use: The losses and their weights.
        sr: (N, H, W, C).
        hr: {"pixel", "ms_ssim", "ldl"}: what each loss compares with, of the shape of SR.
        features: VGG features of SR and HR, by layer; None leaves the perceptual loss out.
        fake: The discriminator's logits of SR, of any shape.
        real: Those of HR; None for the standard GAN loss, which has no use for them.
        averaged: SR of the generator with averaged parameters, if `ldl_weight` is not 0.

    Returns:
        The sum, and {"l_g_pix", "l_g_ms_ssim", "l_g_ldl", "l_g_percep", "l_g_gan", "l_g_total"},
        all but the sum unweighted. MS-SSIM and LDL are there if they have a weight.
    """
    total, parts = image_losses(sr, hr, use.pixel_norm, use.pixel_weight, use.ms_ssim_weight)
    if averaged is not None:
        parts["l_g_ldl"] = ldl_loss(sr, hr["ldl"], averaged)
        total += use.ldl_weight * parts["l_g_ldl"]
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


def ldl_loss(sr: jax.Array, hr: jax.Array, averaged: jax.Array) -> jax.Array:
    """Returns the mean absolute difference of SR and HR, weighted by LDL's `artifact_map`."""
    weight = artifact_map(sr, hr, averaged)
    return pixel_loss(weight * sr, weight * hr)


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
