"""Draws the GAN stages of several runs below each other, with a part of an image by each network.

python -m tools.compare_runs runs/a runs/b --output=figure.png --image=lr.png --box=40,40,96,96
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, missing, run_command
from esrgan_jax.files import make_folder, refuse_same, replacing, writing
from tools.alpha_strip import box
from tools.plot_run import PANELS, SUFFIXES, Lines, draw, read_run

SHOWN = (
    "GAN losses",
    "logits of D",
    "validation PSNR-Y, dB",
    "validation LPIPS",
    "validation brightness",
)


def plot(runs: Mapping[str, Lines], parts: Mapping[str, np.ndarray], path: Path) -> None:
    """Draws a row for each run: its panels, and its part of the image.

    Args:
        runs: The log lines of a stage of each run.
        parts: For each run, (H, W, 3) uint8.
        path: The image to write.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise missing("plots", "matplotlib", "matplotlib") from None

    size = 2.8 * (len(SHOWN) + 1), 2.3 * len(runs)
    figure, grid = pyplot.subplots(
        len(runs), len(SHOWN) + 1, figsize=size, layout="constrained", squeeze=False
    )
    for (name, lines), row in zip(runs.items(), grid, strict=True):
        for title, axes in zip(SHOWN, row, strict=False):
            draw(axes, lines, PANELS[title])
            axes.set_title(title, fontsize=8)
        row[0].set_ylabel(name, fontsize=10, fontweight="bold")
        row[-1].imshow(parts[name])
        row[-1].axis("off")
    with replacing(path) as partial, writing(path):
        figure.savefig(partial, dpi=90, format=path.suffix[1:].lower())
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare_runs", description="Draw the GAN stages of several runs."
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="+", type=path_type, help="workdirs with a GAN stage")
    add("--output", type=path_type, required=True, help="image to write")
    add("--image", type=path_type, required=True, help="LR image")
    add("--box", type=box, required=True, help="shown of the result: TOP,LEFT,HEIGHT,WIDTH")
    args: Any = parse(parser, argv)
    if args.output.suffix.lower() not in SUFFIXES:
        raise InputError(f"--output={args.output}: must end in one of {', '.join(SUFFIXES)}")
    refuse_same(args.image, args.output)
    from esrgan_jax.evaluation.comparison import check_box
    from esrgan_jax.images.image_file import read_image
    from esrgan_jax.upscaling.upscaler import SCORED, Upscaler

    image = read_image(args.image)
    runs, parts = {}, {}
    counts = Counter(folder.name for folder in args.runs)
    for folder in args.runs:
        stages = read_run(folder)
        if "gan" not in stages:
            raise InputError(f"{folder}: has no GAN stage")
        upscale = Upscaler.load(str(folder / "gan"), **SCORED)
        name = folder.name if counts[folder.name] == 1 else str(folder)
        runs[name] = stages["gan"]
        sr = upscale(image)
        check_box(args.box, *sr.shape[:2])
        top, left, height, width = args.box
        parts[name] = sr[top : top + height, left : left + width]
    make_folder(args.output.parent)
    plot(runs, parts, args.output)
    print(args.output)


if __name__ == "__main__":
    run_command(main)
