"""Counts which features of VGG are positive, and so are not zero after the activation.

    python -m tools.vgg_activations vgg19.safetensors Set14 --output=docs/runs/vgg_activations.json

The paper takes features before the activation, since few are left after it (§3.3).
"""

import argparse
import json
from collections.abc import Sequence

import jax
import numpy as np

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import run_command
from esrgan_jax.images.image_file import find_images, read_image
from esrgan_jax.interop.vgg_names import load_vgg
from esrgan_jax.models.vgg import VGGFeatures

LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
        InputError: The arguments or files are wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m tools.vgg_activations",
        description="Count the positive features of VGG before each activation that ends a stage.",
    )
    parser.add_argument("vgg", metavar="VGG", type=path_type, help="converted VGG19")
    parser.add_argument("folder", metavar="FOLDER", type=path_type, help="images")
    parser.add_argument("--output", metavar="FILE", type=path_type, required=True, help="JSON")
    args = parse(parser, argv)
    depth, params = load_vgg(args.vgg)
    compute = jax.jit(VGGFeatures(layers=LAYERS, depth=depth).apply)
    shares = {
        path.stem: positive(compute({"params": params}, read_image(path)[None] / np.float32(255)))
        for path in find_images(args.folder)
    }
    args.output.write_text(json.dumps(shares, indent=1) + "\n")


def positive(features: dict[str, jax.Array]) -> dict[str, float]:
    """Returns the share of positive features of each layer, from 0 to 1."""
    return {name: float((value > 0).mean()) for name, value in features.items()}


if __name__ == "__main__":
    run_command(main)
