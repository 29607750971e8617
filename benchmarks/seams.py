"""Makes the image of docs/upscaling.md that shows seams by overlap: python -m benchmarks.seams

A smooth gradient and a texture, untiled, in tiles of little overlap and in tiles as they are by
default, and what differs between tiled and untiled, twenty times.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from esrgan_jax.command_line import parse
from esrgan_jax.errors import run_command
from esrgan_jax.evaluation.comparison import comparison
from esrgan_jax.images.image_file import write_image
from esrgan_jax.imresize import imresize
from esrgan_jax.upscaling.upscaler import Upscaler

SIZE, LITTLE = 160, 16
TIMES = 20


def gradient() -> np.ndarray:
    """(SIZE, SIZE, 3) uint8, from blue to a warm gray, without an edge."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
    channels = (60 + 120 * x, 80 + 80 * (x + y) / 2, 170 - 60 * y)
    return np.stack(channels, axis=-1).astype(np.uint8)


def texture() -> np.ndarray:
    """(SIZE, SIZE, 3) uint8, scikit-image's photograph of a wall of bricks."""
    from skimage import data

    gray = imresize(data.brick()[: 2 * SIZE, : 2 * SIZE], 1 / 2)
    return gray[..., None].repeat(3, axis=-1)


def panels(model: str, image: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Returns labelled results of one image, tiled with different overlaps."""
    devices = jax.devices()[:1]
    whole = Upscaler.load(model, tile=4 * SIZE, devices=devices)(image)
    shown = [("untiled", whole)]
    default = Upscaler.load(model, devices=devices).overlap
    for overlap in (LITTLE, default):
        tile = (SIZE + overlap) // 2
        tiled = Upscaler.load(model, tile=tile, overlap=overlap, devices=devices)(image)
        difference = np.abs(tiled.astype(int) - whole)
        label = f"overlap {overlap}{' (default)' if overlap == default else ''}"
        shown += [
            (label, tiled),
            (f"difference x{TIMES},\nat most {difference.max()}", _visible(difference)),
        ]
    return shown


def _visible(difference: np.ndarray) -> np.ndarray:
    return (TIMES * difference).clip(0, 255).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seams", description=__doc__)
    parser.add_argument("--model", required=True, help="a run or weight file of scale 4")
    parser.add_argument("--output", type=Path, required=True, help="the image to write, .png")
    args = parse(parser, argv)
    middle = (SIZE, SIZE, 2 * SIZE, 2 * SIZE)  # around the point where four tiles meet
    rows = [comparison(panels(args.model, image), box=middle) for image in (gradient(), texture())]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(r, [(0, 0), (0, width - r.shape[1]), (0, 0)], constant_values=255) for r in rows]
    write_image(args.output, np.concatenate(rows))


if __name__ == "__main__":
    run_command(main)
