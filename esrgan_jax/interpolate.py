"""The command that interpolates two generators or, with --images, blends images."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from esrgan_jax.blend import ALPHA
from esrgan_jax.command_line import model_type, parse, program
from esrgan_jax.errors import InputError, printable, run_command
from esrgan_jax.files import refuse_same


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog=program("interpolate"),
        description="Interpolate the weights of a PSNR-oriented generator and a GAN generator: "
        "(1 - alpha) PSNR + alpha GAN.",
        epilog="MODEL is a run or checkpoint directory, a weight file or the name of "
        "published weights (esrgan-jax models lists them).",
    )
    parser.add_argument(
        "--psnr", metavar="MODEL", required=True, type=model_type, help="the PSNR generator"
    )
    parser.add_argument(
        "--gan", metavar="MODEL", required=True, type=model_type, help="the GAN generator"
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=ALPHA,
        help="0 is the PSNR generator, 1 the GAN generator (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        required=True,
        type=model_type,
        help="file to write (.safetensors, .pth, .npz), or a directory for a checkpoint",
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="blend images, not weights: --psnr, --gan and --output are images or folders",
    )
    args = parse(parser, argv)
    if not math.isfinite(args.alpha):
        raise InputError(f"--alpha={args.alpha}: give a finite number, such as 0.8")
    if args.images:
        from esrgan_jax.images.image_blend import blend_images

        written = blend_images(Path(args.psnr), Path(args.gan), args.alpha, Path(args.output))
        result = f"{len(written)} blended image{'s' if len(written) != 1 else ''}"
    else:
        for model in (args.psnr, args.gan):
            refuse_same(Path(model), Path(args.output))

        from esrgan_jax.checkpoint import save_generator
        from esrgan_jax.interpolation import architecture, load_blend

        module, variables = load_blend(args.psnr, args.gan, args.alpha)
        save_generator(args.output, module, variables)
        result = architecture(module)
    blend = f"{1 - args.alpha:g} · {args.psnr} + {args.alpha:g} · {args.gan}"
    print(printable(f"{args.output}: {result}, {blend}"))


if __name__ == "__main__":
    run_command(main)
