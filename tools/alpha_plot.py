"""Draws PSNR against LPIPS and NIQE over alpha, from files of `tools.alpha_scores`.

    python -m tools.alpha_plot docs/runs/interpolation/*.json --output=docs/images/alpha_scores.png

A row for each dataset; a curve for each pair of networks and kind of interpolation, with a point
for each alpha.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, missing, run_command
from esrgan_jax.evaluation.metrics import METRICS
from esrgan_jax.files import replacing, writing

KINDS = {"network": "-", "picture": "--"}  # with the lines that they are drawn with
LABELLED = (0.0, 0.5, 0.8, 1.0)  # alphas that are written beside their points


def read_results(paths: Sequence[Path]) -> dict[str, list[Any]]:
    """Returns the results of each dataset; raises InputError for a file of another kind."""
    found: dict[str, list[Any]] = {}
    for path in paths:
        try:
            result = json.loads(path.read_text())
            _ = [result[key] for key in ("model", "psnr_model", *KINDS)]
            found.setdefault(result["dataset"], []).append(result)
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path} is not a file that tools.alpha_scores wrote") from None
    return found


def plot(found: dict[str, list[Any]], path: Path) -> None:
    """Draws a row of two panels for each dataset.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError:
        raise missing("plots", "matplotlib", "matplotlib") from None
    figure, grid = pyplot.subplots(
        len(found), 2, figsize=(9, 3.6 * len(found)), layout="constrained", squeeze=False
    )
    models = sorted({each["model"] for results in found.values() for each in results})
    for (dataset, results), axes_of_row in zip(found.items(), grid, strict=True):
        for axes, metric in zip(axes_of_row, ("lpips", "niqe"), strict=True):
            for result in results:
                color = f"C{models.index(result['model'])}"
                for kind, style in KINDS.items():
                    scored = [line for line in result[kind] if line[metric] is not None]
                    points = [(line["psnr_y"], line[metric]) for line in scored]
                    label = f"{result['psnr_model']} and {result['model']}: {kind}"
                    axes.plot(
                        *np.reshape(points, (-1, 2)).T, style, color=color, marker=".",
                        label=label, linewidth=1.2,
                    )  # fmt: skip
                    for line, point in zip(scored, points, strict=True):
                        if line["alpha"] in LABELLED and kind == "network":
                            axes.annotate(
                                f"{line['alpha']:g}", point, xytext=(3, 4),
                                textcoords="offset points", fontsize=7, color=color,
                            )  # fmt: skip
            axes.set_title(f"{dataset}: {METRICS[metric].heading} (lower is better)", fontsize=9)
            axes.set_xlabel("PSNR-Y, dB (higher is better)", fontsize=8)
            axes.tick_params(labelsize=7)
            axes.grid(alpha=0.3)
        axes_of_row[0].legend(fontsize=6)
    with replacing(path) as partial, writing(path):
        figure.savefig(partial, dpi=100, format=path.suffix[1:].lower())
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.alpha_plot", description="Draw PSNR against LPIPS and NIQE."
    )
    add = parser.add_argument
    add("results", nargs="+", metavar="JSON", type=path_type, help="files of tools.alpha_scores")
    add("--output", metavar="FILE", type=path_type, required=True, help="PNG, PDF or SVG to write")
    args = parse(parser, argv)
    if args.output.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"--output={args.output}: must end in .png, .pdf or .svg")
    plot(read_results(args.results), args.output)
    print(args.output)


if __name__ == "__main__":
    run_command(main)
