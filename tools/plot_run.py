"""Plots a run: python -m tools.plot_run runs/x4 --output=curves.png [--thinned=DIR]

A run is a workdir of `esrgan_jax.main`, or a folder of its thinned log such as docs/runs/lite_x4.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, missing, run_command
from esrgan_jax.files import make_folder, replacing, write_text, writing

STAGES = ("psnr", "gan")
SUFFIXES = (".png", ".pdf", ".svg")
LINES = 500  # log lines of a stage after thinning
WINDOWS = 40  # number of means along a curve
# The curves of each panel. A panel is drawn if the stage has one of them.
PANELS = {
    "pixel loss (L1)": ("l_g_pix",),
    "validation PSNR-Y, dB": ("val_psnr_y",),
    "validation LPIPS": ("val_lpips",),
    "validation NIQE": ("val_niqe",),
    "validation brightness": ("val_brightness",),
    "perceptual loss": ("l_g_percep",),
    "GAN losses": ("l_g_gan", "l_d_total"),
    "logits of D": ("out_d_real", "out_d_fake"),
    "gradient norms": ("grad_norm_g", "grad_norm_d"),
    "learning rates": ("lr_g", "lr_d"),
}
LOGARITHMIC = ("gradient norms",)

Lines = list[dict[str, Any]]


def read_run(folder: Path) -> dict[str, Lines]:
    """Reads the log lines of each stage of a run; raises InputError if none can be drawn."""
    from esrgan_jax.training.metric_writer import JSONL, read_lines

    stages = {}
    for name in STAGES:
        for path in (folder / name / JSONL, folder / f"{name}.jsonl"):
            if path.is_file():
                stages[name] = [json.loads(line) for line in read_lines(path)]
    drawn = {name for names in PANELS.values() for name in names}
    stages = {k: lines for k, lines in stages.items() if any(drawn & {*line} for line in lines)}
    if not stages:
        raise InputError(f"{folder}: has no {' or '.join(STAGES)} with losses or scores in {JSONL}")
    return stages


def thin(lines: Lines, most: int = LINES) -> Lines:
    """Returns all validation lines, and of the others every k-th and the last, at most `most`."""
    logged = [line for line in lines if not _validates(line)]
    step = -(-len(logged) // max(most - 1, 1))
    kept = {line["step"] for line in [*logged[::step], *logged[-1:]]} if logged else set()
    return [line for line in lines if _validates(line) or line["step"] in kept]


def _validates(line: dict[str, Any]) -> bool:
    return any(name.startswith("val_") for name in line)


def curve(lines: Lines, name: str) -> tuple[list[float], list[float]]:
    """Returns the steps and the values of one metric."""
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return [step for step, _ in points], [value for _, value in points]


def window_means(
    steps: Sequence[float], values: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Returns mean steps and mean values over at most WINDOWS equal parts of a curve."""
    size = -(-len(values) // WINDOWS)
    starts = range(0, len(values), size)

    def means(numbers: Sequence[float]) -> list[float]:
        parts = [numbers[start : start + size] for start in starts]
        return [sum(part) / len(part) for part in parts]

    return means(steps), means(values)


def draw(axes: Any, lines: Lines, names: Sequence[str]) -> None:
    """Draws metrics over steps: values as a faint curve, means as a clear one."""
    for index, name in enumerate(names):
        steps, values = curve(lines, name)
        if not values:
            continue
        if name.startswith(("val_", "lr_")):
            marker = "." if name.startswith("val_") else None
            axes.plot(steps, values, color=f"C{index}", label=name, marker=marker)
        else:
            axes.plot(steps, values, color=f"C{index}", alpha=0.25, linewidth=0.7)
            axes.plot(*window_means(steps, values), color=f"C{index}", label=name)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)


def plot(stages: dict[str, Lines], path: Path) -> None:
    """Draws a row of panels for each stage.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise missing("plots", "matplotlib", "matplotlib") from None

    rows = {
        stage: {
            title: names
            for title, names in PANELS.items()
            if any(name in line for line in lines for name in names)
        }
        for stage, lines in stages.items()
    }
    across = max(map(len, rows.values()))
    figure, grid = pyplot.subplots(
        len(rows), across, figsize=(3.4 * across, 2.8 * len(rows)), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for (stage, panels), line_of_axes in zip(rows.items(), grid, strict=True):
        for axes in line_of_axes[len(panels) :]:
            axes.axis("off")
        for (title, names), axes in zip(panels.items(), line_of_axes, strict=False):
            draw(axes, stages[stage], names)
            if title in LOGARITHMIC:
                axes.set_yscale("log")
            axes.set_title(f"{stage}: {title}", fontsize=9)
        line_of_axes[0].set_xlabel("step", fontsize=8)
    with replacing(path) as partial, writing(path):
        figure.savefig(partial, dpi=110, format=path.suffix[1:].lower())
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.plot_run", description="Draw the curves of a run."
    )
    parser.add_argument("run", type=path_type, help="workdir, or folder of its thinned log")
    parser.add_argument("--output", type=path_type, required=True, help="image to write")
    parser.add_argument(
        "--thinned",
        metavar="DIR",
        type=path_type,
        help=f"write psnr.jsonl and gan.jsonl here, with {LINES} lines and all validations each",
    )
    args: Any = parse(parser, argv)
    if args.output.suffix.lower() not in SUFFIXES:
        raise InputError(f"--output={args.output}: must end in one of {', '.join(SUFFIXES)}")
    stages = read_run(args.run)
    for folder in filter(None, (args.thinned, args.output.parent)):
        make_folder(folder)
    if args.thinned:
        for name, lines in stages.items():
            text = "".join(json.dumps(line) + "\n" for line in thin(lines))
            write_text(args.thinned / f"{name}.jsonl", text)
    plot(stages, args.output)
    print(args.output)


if __name__ == "__main__":
    run_command(main)
