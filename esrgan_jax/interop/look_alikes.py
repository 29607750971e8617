"""Recognises networks that look like an RRDB generator but are not one."""

import re
from collections.abc import Iterable

LOOK_ALIKES = (
    (r"f_HR_conv1\.0\.weight", "SPSR"),
    (r"OFR\..*", "SOFVSR"),
    (r"am_list\..*", "MMRealSR"),
    (r"model\.1\.sub\.0\.res\.0\.weight", "SRResNet"),
    (r"body\.0\.conv1\.weight", "SRResNet (MSRResNet of BasicSR)"),
    (r"(.*\.)?trunk_net\.0\.conv1\.weight", "SRResNet (MSRResNet of MMagic)"),
    (r"body\.0\.weight", "Compact (SRVGGNet)"),
    (r".*srdb.*", "an ESRGAN with other dense blocks (srdb)"),
    (
        r"res_blocks\.0\.dense_blocks\.0\.b1\.0\.weight",
        "PyTorch-GAN's generator (normalised colours, other activations)",
    ),
    (
        r"(.*\.)?basic_block\.0\.layer1\.layer1\.0\.weight",
        "wonbeomjang's ESRGAN-pytorch (other activations)",
    ),
    (
        r"(.*\.)?blocks\.1\.module\.block_0\.module\.module\.0\.conv\.weight",
        "leverxgroup's esrgan (an activation behind every convolution)",
    ),
    (r"layers\.0\.residual_group\..*", "SwinIR or a relative of it"),
    (r"conv0_0\.weight", "a discriminator of ESRGAN"),
    (r"conv0\.weight", "a U-Net discriminator of Real-ESRGAN"),
    (r"features\.0\.weight", "a VGG (esrgan-jax convert-vgg reads those) or a discriminator"),
)


def find_look_alike(names: Iterable[str]) -> str:
    """Names the network that has these tensors; "" if it is not one of LOOK_ALIKES."""
    names = list(names)
    for pattern, network in LOOK_ALIKES:
        if any(re.fullmatch(pattern, name) for name in names):
            return network
    return ""
