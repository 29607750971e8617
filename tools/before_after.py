"""Draws what upscaling makes of a photograph from the web: the first picture of README.

    python -m tools.before_after kodim22.png --output=docs/images/lite_x4_real.jpg

The photograph is reduced to a quarter and saved as JPEG, as in `tools.degrade_images`. Side by side
are the bicubic result, that of the networks for clean images, and that of the default.
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.files import refuse_same

if TYPE_CHECKING:
    from PIL import Image

SMALLEST = 4  # pixels of a side; the scale of the package's networks
QUALITY = 50  # of the photograph as JPEG
PICTURE_QUALITY = 88  # of the picture, if that is a JPEG


def before_after(hr: "Image.Image", quality: int) -> np.ndarray:
    """Returns the picture of a photograph, (H, W, 3) uint8; `hr` has 4 x 4 pixels or more."""
    from PIL import Image

    from esrgan_jax.evaluation.comparison import comparison
    from esrgan_jax.upscaling.upscaler import Upscaler
    from tools.degrade_images import compressed, reduced

    default, clean = Upscaler.load(), Upscaler.load(denoise=0)
    lr = compressed(reduced(hr, default.scale), quality)
    size = (lr.width * default.scale, lr.height * default.scale)
    bicubic = lr.resize(size, Image.Resampling.BICUBIC)
    return comparison(
        [
            (f"JPEG of quality {quality}, bicubic", np.asarray(bicubic)),
            ("--denoise=0", clean(np.asarray(lr))),
            ("esrgan-jax upscale", default(np.asarray(lr))),
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.before_after",
        description="Draw a photograph as a small JPEG, and what upscaling makes of it.",
    )
    add = parser.add_argument
    add("image", metavar="HR", type=path_type, help="the photograph, which is reduced first")
    add("--output", metavar="FILE", type=path_type, required=True, help="the picture: .jpg, .png")
    add("--quality", type=int, default=QUALITY, help=f"of the JPEG, 1 to 95 (default {QUALITY})")
    args = parse(parser, argv)
    if not 1 <= args.quality <= 95:
        raise InputError(f"--quality={args.quality}: take a whole number from 1 to 95")
    refuse_same(args.image, args.output)

    from PIL import Image

    from esrgan_jax.images.image_file import read_image
    from esrgan_jax.images.output_formats import check_target
    from esrgan_jax.images.writer import write_rows

    try:
        check_target(args.output.suffix, height=1, width=1, bands=3, dtype=np.uint8)
    except InputError as error:
        raise InputError(f"--output={args.output}: {error}") from None
    hr = Image.fromarray(read_image(args.image))
    if min(hr.size) < SMALLEST:
        raise InputError(f"{args.image}: is smaller than {SMALLEST} pixels, which reduce to one")
    picture = before_after(hr, args.quality)
    height, width, bands = picture.shape
    write_rows(
        args.output,
        [picture],
        height=height,
        width=width,
        bands=bands,
        dtype=picture.dtype,
        quality=PICTURE_QUALITY,
    )
    print(args.output)


if __name__ == "__main__":
    run_command(main)
