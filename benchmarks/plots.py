"""Plots of docs/upscaling.md: python -m benchmarks.plots overlap.jsonl memory.jsonl --output=DIR"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, run_command


def plot_overlap(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Plots each network's largest difference between tiled and untiled results by overlap.

    Args:
        lines: Of `benchmarks.overlap`.
        path: The image to write.
    """
    from matplotlib import pyplot

    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for line in lines:
        curve = curves[line["model"]]
        curve[line["overlap"]] = max(line["largest"], curve.get(line["overlap"], 0))
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for model, curve in curves.items():
        axes.semilogy(*zip(*sorted(curve.items()), strict=True), marker="o", label=model)
    axes.axhline(1, color="gray", linestyle="--", label="one level")
    axes.set_xlabel("overlap, LR pixels")
    axes.set_ylabel("largest difference, levels of 255")
    axes.set_xticks(sorted({line["overlap"] for line in lines}))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def plot_memory(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Plots the command's peak host memory by the size of the result.

    Args:
        lines: Of `benchmarks.memory`, of networks that enlarge four times.
        path: The image to write.
    """
    from matplotlib import pyplot

    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in lines:
        curves[f"{line['model']}, {line['suffix']}"].append(
            (16e-6 * line["lr_height"] * line["lr_width"], line["peak_mib"])
        )
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for name, curve in curves.items():
        axes.semilogx(*zip(*sorted(curve), strict=True), marker="o", label=name)
    largest = max(x for curve in curves.values() for x, _ in curve)
    smallest = min(x for curve in curves.values() for x, _ in curve)
    pixels = [smallest * (largest / smallest) ** (i / 50) for i in range(51)]
    axes.semilogx(pixels, [3e6 * x / 2**20 for x in pixels], ":", color="gray", label="the pixels")
    axes.axhline(2048, color="gray", linestyle="--", label="2 GiB")
    axes.set_ylim(0, 2600)
    axes.set_xlabel("result, megapixels")
    axes.set_ylabel("peak memory, MiB")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plots", description="Draw the plots of docs/upscaling.md."
    )
    parser.add_argument(
        "files", nargs="+", type=Path, help="results of the benchmarks, lines of JSON"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the plots")
    args = parse(parser, argv)
    lines = []
    for path in args.files:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        lines += [json.loads(line) for line in path.read_text().splitlines()]
    args.output.mkdir(parents=True, exist_ok=True)
    overlap = [line for line in lines if "overlap" in line]
    memory = [line for line in lines if "peak_mib" in line]
    if overlap:
        plot_overlap(overlap, args.output / "overlap.png")
    if memory:
        plot_memory(memory, args.output / "memory.png")


if __name__ == "__main__":
    run_command(main)
