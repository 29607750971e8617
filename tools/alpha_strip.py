"""Upscales one image with several blends of two networks, side by side (paper, Fig. 10).

python -m tools.alpha_strip photo.png --output=strip.png [--box=TOP,LEFT,HEIGHT,WIDTH]

With --pictures a second row shows blends of the results of the two networks.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from esrgan_jax.blend import GAN, PSNR
from esrgan_jax.command_line import model_type, parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.files import refuse_same

MOST_ZOOM = 16
ALPHAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def numbers(text: str) -> tuple[float, ...]:
    """Parses a list such as "0,0.5,1"."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0,0.5,1") from None


def box(text: str) -> tuple[int, int, int, int]:
    """Parses "TOP,LEFT,HEIGHT,WIDTH"."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not TOP,LEFT,HEIGHT,WIDTH")
    top, left, height, width = map(int, parts)
    return top, left, height, width


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.alpha_strip",
        description="Upscale an image with blends of a PSNR and a GAN network, side by side.",
    )
    add = parser.add_argument
    add("image", metavar="LR", type=path_type, help="the image to upscale")
    add("--output", metavar="FILE", type=path_type, required=True, help="the PNG file to write")
    add("--psnr_model", metavar="MODEL", type=model_type, help=f"alpha 0 (default: {PSNR})")
    add("--model", metavar="MODEL", type=model_type, help=f"alpha 1 (default: {GAN})")
    add("--alphas", type=numbers, default=ALPHAS, help="alphas to show, such as 0,0.5,1")
    add("--box", type=box, help="part of the result to show: TOP,LEFT,HEIGHT,WIDTH in pixels")
    add("--pictures", action="store_true", help="below, blends of the two networks' results")
    add("--zoom", type=int, default=1, help=f"pixels are drawn ZOOM x ZOOM large, 1 to {MOST_ZOOM}")
    args = parse(parser, argv)
    if not 1 <= args.zoom <= MOST_ZOOM:
        raise InputError(f"--zoom={args.zoom}: take a whole number from 1 to {MOST_ZOOM}")
    if (args.model is None) != (args.psnr_model is None):
        raise InputError("--model and --psnr_model go together: give both, or neither")
    refuse_same(args.image, args.output)
    if args.output.suffix.lower() != ".png":
        raise InputError(f"--output={args.output}: only PNG is written; use a name with .png")

    from esrgan_jax.evaluation.comparison import comparison
    from esrgan_jax.images.image_blend import blend
    from esrgan_jax.images.image_file import read_image, write_image
    from esrgan_jax.upscaling.upscaler import Upscaler

    lr = read_image(args.image)
    alphas: list[float] = [*args.alphas]
    results: dict[float, np.ndarray] = {}
    for alpha in [*alphas, *([0.0, 1.0] if args.pictures else [])]:
        if alpha in results:
            continue
        upscale = Upscaler.load(args.model or GAN, psnr_model=args.psnr_model or PSNR, alpha=alpha)
        results[alpha] = upscale(lr)
    rows = [results]
    if args.pictures:
        ends = results[0.0], results[1.0]
        rows.append({alpha: blend(*ends, alpha) for alpha in alphas})
    strips = [
        comparison(
            [(f"alpha {alpha:g}", row[alpha]) for alpha in alphas],
            box=args.box,
            zoom=args.zoom,
        )
        for row in rows
    ]
    write_image(args.output, np.concatenate(strips))
    print(args.output)


if __name__ == "__main__":
    run_command(main)
