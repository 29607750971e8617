"""The two training steps in PyTorch, in the order of the authors' code of 2019."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def _real_loss(logits: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def _fake_loss(logits: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.zeros_like(logits))


def ragan_generator_loss(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Paper Eq. 2, halved; logits of HR and SR."""
    return (_fake_loss(real - fake.mean()) + _real_loss(fake - real.mean())) / 2


def ragan_discriminator_losses(
    real: torch.Tensor, fake: torch.Tensor, stop_means: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paper Eq. 1 in its two parts, of HR and of SR, each halved.

    BasicSR stops the gradient of the means and calls `backward` on each part; the sum of the two
    gradients is that of the sum.
    """
    mean_real, mean_fake = real.mean(), fake.mean()
    if stop_means:
        mean_real, mean_fake = mean_real.detach(), mean_fake.detach()
    return _real_loss(real - mean_fake) / 2, _fake_loss(fake - mean_real) / 2


def psnr_step(
    generator: Any, optimizer: torch.optim.Optimizer, lr: torch.Tensor, hr: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Updates the network once by the L1 loss."""
    optimizer.zero_grad()
    loss = F.l1_loss(generator(lr).float(), hr)
    loss.backward()
    optimizer.step()
    return {"l_g_pix": loss.detach()}


def gan_step(
    generator: Any,
    discriminator: nn.Module,
    vgg: Any,
    optimizer: torch.optim.Optimizer,
    d_optimizer: torch.optim.Optimizer,
    lr: torch.Tensor,
    hr: torch.Tensor,
    *,
    pixel_weight: float,
    perceptual_weight: float,
    layer_weights: Mapping[str, float],
    gan_weight: float,
    stop_means: bool = False,
) -> dict[str, torch.Tensor]:
    """Updates the generator, then the discriminator on SR from before that update."""
    discriminator.requires_grad_(False)
    optimizer.zero_grad()
    sr = generator(lr)
    parts = {"l_g_pix": F.l1_loss(sr.float(), hr)}
    with torch.no_grad():
        wanted = vgg(hr)
    found = vgg(sr)
    differences = (w * F.l1_loss(found[name], wanted[name]) for name, w in layer_weights.items())
    parts["l_g_percep"] = torch.stack(list(differences)).sum()
    real = discriminator(hr).detach()
    parts["l_g_gan"] = ragan_generator_loss(real, discriminator(sr))
    total = pixel_weight * parts["l_g_pix"] + perceptual_weight * parts["l_g_percep"]
    parts["l_g_total"] = total + gan_weight * parts["l_g_gan"]
    parts["l_g_total"].backward()
    optimizer.step()

    discriminator.requires_grad_(True)
    d_optimizer.zero_grad()
    real, fake = discriminator(hr), discriminator(sr.detach())
    l_d_real, l_d_fake = ragan_discriminator_losses(real, fake, stop_means)
    parts |= {"l_d_real": l_d_real, "l_d_fake": l_d_fake, "l_d_total": l_d_real + l_d_fake}
    parts |= {"out_d_real": real.mean(), "out_d_fake": fake.mean()}
    parts["l_d_total"].backward()
    d_optimizer.step()
    return {name: part.detach() for name, part in parts.items()}
