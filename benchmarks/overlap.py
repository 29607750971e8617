"""Compares tiled results with untiled ones: python -m benchmarks.overlap > overlap.jsonl"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from esrgan_jax.checkpoint import load_generator
from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.images.image_file import read_image
from esrgan_jax.upscaling.upscaler import Upscaler

OVERLAPS = (16, 32, 48, 64, 80, 96, 112)


def measure(
    module: Any, variables: Any, image: np.ndarray, overlaps: Sequence[int] = OVERLAPS
) -> list[dict[str, float]]:
    """Compares four tiles with the whole, in levels of 255.

    Args:
        module: The generator.
        variables: Its variables.
        image: (S, S, C) uint8, larger than the overlaps.
        overlaps: LR pixels that the tiles share.

    Returns:
        For each overlap the largest difference and the 99.9th percentile, of float results.
    """
    devices = jax.devices()[:1]
    lr, size = image.astype(np.float32) / 255, len(image)
    whole = Upscaler(module, variables, tile=4 * size, devices=devices)(lr)
    lines = []
    for overlap in overlaps:
        tile = (size + overlap) // 2
        tiled = Upscaler(module, variables, tile=tile, overlap=overlap, devices=devices)(lr)
        levels = 255 * np.abs(tiled - whole)
        lines.append(
            {
                "overlap": overlap,
                "largest": float(levels.max()),
                "percentile_99_9": float(np.quantile(levels, 0.999)),
            }
        )
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overlap",
        description="Compare tiled with untiled results and print a line of JSON for each case.",
    )
    parser.add_argument("--model", nargs="+", required=True, help="runs or weight files")
    parser.add_argument("--image", nargs="+", required=True, type=Path, help="LR images")
    parser.add_argument(
        "--size", type=int, default=160, help="side of the square that is cut out of each image"
    )
    args = parse(parser, argv)
    for model in args.model:
        module, variables = load_generator(model)
        for path in args.image:
            image = read_image(path)
            size = min(args.size, *image.shape[:2]) // 2 * 2
            if size <= max(OVERLAPS):
                raise InputError(f"{path}: {size} px is too small for an overlap")
            top, left = ((side - size) // 2 for side in image.shape[:2])
            for line in measure(module, variables, image[top : top + size, left : left + size]):
                case = {"model": Path(model).name, "image": path.name, "size": size}
                print(json.dumps({**case, **line}), flush=True)


if __name__ == "__main__":
    run_command(main)
