"""Turns --model, --psnr_model, --alpha and --denoise into networks and their weights."""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

from esrgan_jax.command_line import model_type
from esrgan_jax.errors import InputError
from esrgan_jax.interop import zoo

Model = str | Path

# The networks of the package: for clean images, and for noise, blur and JPEG.
PSNR, GAN = "lite-x4-psnr", "lite-x4-gan"
REAL_PSNR, REAL = "lite-x4-real-psnr", "lite-x4-real"
ALPHA = 0.8  # how much of their blend are the GAN networks
DENOISE = 1.0  # how much of it are the second two
DEFAULT = "default: the package's, interpolated by --alpha and --denoise"
PSNR_ALONE = (
    "psnr_model without model: name the network that was trained from it as well, "
    "or leave both out for the package's"
)


def weighted_models(
    model: Model | Mapping[Model, float] | None = None,
    psnr_model: Model | None = None,
    alpha: float | None = None,
    denoise: float | None = None,
) -> list[tuple[Model, float]]:
    """Returns the networks to interpolate and their weights, for `interpolation.load_models`.

    Args:
        model: A network, {network: weight} for a blend of any number, or None for the package's,
            for which `alpha` is ALPHA and `denoise` is DENOISE by default.
        psnr_model: With `alpha`, (1 - alpha) · psnr_model + alpha · model.
        alpha: 0 is `psnr_model`, 1 is `model`.
        denoise: Of the package's, 0 are the networks for clean images, 1 those for noise, blur and
            JPEG. (Real-ESRGAN's `-dn` interpolates so, too.)

    Raises:
        InputError: The arguments do not fit together.
        RunError: The package's networks are missing or damaged.
    """
    if model is None:
        if psnr_model is not None:
            raise InputError(PSNR_ALONE)
        return _packaged(ALPHA if alpha is None else alpha, DENOISE if denoise is None else denoise)
    if denoise is not None:
        raise InputError(
            "denoise interpolates the package's networks: leave out the model, or give weights of "
            "several models"
        )
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
    _check(alpha=alpha)
    return [(psnr_model, 1 - alpha), (model, alpha)]


def _packaged(alpha: float, denoise: float) -> list[tuple[Model, float]]:
    """Returns the package's networks whose weight is not 0."""
    _check(alpha=alpha, denoise=denoise)
    weights = {
        PSNR: (1 - denoise) * (1 - alpha),
        GAN: (1 - denoise) * alpha,
        REAL_PSNR: denoise * (1 - alpha),
        REAL: denoise * alpha,
    }
    # Not by their names, since a path of that name has precedence over the zoo.
    return [(zoo.fetch(name), weight) for name, weight in weights.items() if weight]


def _check(**numbers: float) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise InputError(f"{name} is {number}: give a finite number, such as 0.8")


def add_blend_arguments(
    parser: argparse._ActionsContainer,  # pyright: ignore[reportPrivateUsage] # parser or group
) -> None:
    """Adds --psnr_model and --alpha, for commands that interpolate networks on the fly."""
    parser.add_argument(
        "--psnr_model",
        metavar="MODEL",
        type=model_type,
        help="PSNR-oriented generator to interpolate the model with, together with --alpha",
    )
    parser.add_argument(
        "--alpha",
        metavar="A",
        type=float,
        help="0 is the PSNR network, 1 the GAN network, other values a blend: of the two models, "
        f"or of the package's if none is given (then {ALPHA} by default)",
    )


def add_denoise_argument(
    parser: argparse._ActionsContainer,  # pyright: ignore[reportPrivateUsage] # parser or group
) -> None:
    """Adds --denoise, for commands whose default are the package's networks."""
    parser.add_argument(
        "--denoise",
        metavar="D",
        type=float,
        help="0 is the package's networks for clean images, 1 those for noise, blur and JPEG, "
        f"other values a blend (default: {DENOISE:g})",
    )
