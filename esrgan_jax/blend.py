"""Turns --model, --psnr_model and --alpha into networks and their weights."""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

from esrgan_jax.command_line import model_type
from esrgan_jax.errors import InputError
from esrgan_jax.interop import zoo

Model = str | Path

PSNR, GAN = "lite-x4-psnr", "lite-x4-gan"  # the networks of the package
ALPHA = 0.8  # how much of their blend is the GAN network
DEFAULT = f"default: the package's {PSNR} and {GAN}, interpolated by --alpha, by default {ALPHA}"
PSNR_ALONE = (
    "psnr_model without model: name the network that was trained from it as well, "
    "or leave both out for the package's"
)


def weighted_models(
    model: Model | Mapping[Model, float] | None = None,
    psnr_model: Model | None = None,
    alpha: float | None = None,
) -> list[tuple[Model, float]]:
    """Returns the networks to interpolate and their weights, for `interpolation.load_models`.

    Args:
        model: A network, {network: weight} for a blend of any number, or None for the package's
            two, for which `alpha` is ALPHA by default.
        psnr_model: With `alpha`, (1 - alpha) · psnr_model + alpha · model.
        alpha: 0 is `psnr_model`, 1 is `model`.

    Raises:
        InputError: The arguments do not fit together.
        RunError: The package's networks are missing or damaged.
    """
    if model is None:
        if psnr_model is not None:
            raise InputError(PSNR_ALONE)
        # Not by their names, since a path of that name has precedence over the zoo.
        model, psnr_model = zoo.fetch(GAN), zoo.fetch(PSNR)
        alpha = ALPHA if alpha is None else alpha
    has_partner = psnr_model is not None or alpha is not None
    if isinstance(model, Mapping):
        if has_partner or not model:
            raise InputError(
                "give weights of one or more models, or psnr_model and alpha: not both"
            )
        return [*model.items()]
    if not has_partner:
        return [(model, 1.0)]
    if alpha is None:
        raise InputError(
            "psnr_model without alpha: say how much of the blend is the model, such as 0.8"
        )
    if psnr_model is None:
        raise InputError(
            "alpha without psnr_model: name the network to blend the model with as well, "
            "or leave the model out to blend the package's"
        )
    if not math.isfinite(alpha):
        raise InputError(f"alpha is {alpha}: give a finite number, such as 0.8")
    return [(psnr_model, 1 - alpha), (model, alpha)]


def add_blend_arguments(
    parser: argparse._ActionsContainer,  # pyright: ignore[reportPrivateUsage] # parser or group
) -> None:
    """Adds --psnr_model and --alpha, for commands that interpolate networks on the fly."""
    parser.add_argument(
        "--psnr_model",
        metavar="MODEL",
        type=model_type,
        help="PSNR-oriented generator to interpolate --model with, together with --alpha",
    )
    parser.add_argument(
        "--alpha",
        metavar="A",
        type=float,
        help="0 is the PSNR network, 1 the GAN network, other values a blend: of the two models, "
        "or of the package's if none is given",
    )
