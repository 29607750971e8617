"""Which networks --model, --psnr_model and --alpha mean: the package's own where none is named."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from esrgan_jax.errors import InputError

Model = str | Path

NAME = "lite-x4"  # of the two networks of the package, together
ALPHA = 0.8  # how much of their mixture is the GAN network
DEFAULT = f"default: {NAME} of the package, --alpha={ALPHA}"


def mixture(
    model: Model | Mapping[Model, float] | None = None,
    psnr_model: Model | None = None,
    alpha: float | None = None,
) -> list[tuple[Model, float]]:
    """The networks to interpolate and their weights, as `interpolate.load_models` takes them.

    Args:
        model: A network, {network: weight} for a mixture of any number, or None for the package's
            two, of which `alpha`, if not ALPHA, says how much is the GAN network.
        psnr_model: With `alpha`, (1 - alpha) · psnr_model + alpha · model.
        alpha: 0 is `psnr_model`, 1 is `model`.

    Raises:
        InputError: The three do not fit together.
    """
    both = "(alpha 0 is the psnr_model, 1 the model)"
    if model is None:
        if psnr_model is not None:
            raise InputError(f"psnr_model without model: interpolation needs both {both}")
        model, psnr_model = f"{NAME}-gan", f"{NAME}-psnr"
        alpha = ALPHA if alpha is None else alpha
    if psnr_model is None and alpha is None:
        return [*model.items()] if isinstance(model, Mapping) else [(model, 1.0)]
    if alpha is None:
        raise InputError(f"psnr_model without alpha: interpolation needs both {both}")
    if psnr_model is None:
        raise InputError(f"alpha without psnr_model: interpolation needs both {both}")
    if isinstance(model, Mapping):
        raise InputError("psnr_model and alpha, or weights of several models: not both")
    return [(psnr_model, 1 - alpha), (model, alpha)]


def add_mixture_arguments(parser: argparse._ActionsContainer) -> None:
    """--psnr_model and --alpha, for commands whose --model can be mixed on the fly."""
    parser.add_argument(
        "--psnr_model",
        metavar="MODEL",
        help="PSNR-oriented generator to interpolate with, together with --alpha",
    )
    parser.add_argument(
        "--alpha",
        metavar="A",
        type=float,
        help="0 is the psnr_model, 1 the model, between a mixture",
    )
