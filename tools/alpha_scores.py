"""Scores interpolated networks and interpolated pictures for every alpha (paper, §4.5).

    python -m tools.alpha_scores Set5 --output=scores.json \\
        --psnr_model=RRDB_PSNR_x4.pth --model=RRDB_ESRGAN_x4.pth

"network" are the results of interpolated parameters, "picture" the interpolated results of the two
networks. Both are the same at alpha 0 and 1. The file is written after each alpha, so a stopped
command leaves those that are done.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.blend import GAN, PSNR
from esrgan_jax.command_line import model_type, parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.evaluation.metrics import METRICS, load_metrics, mean_scores, scores
from esrgan_jax.files import make_folder, refuse_same, write_text
from tools.alpha_strip import numbers

ALPHAS = tuple(step / 10 for step in range(11))
Rows = list[dict[str, float]]


def complete_means(columns: Mapping[str, Rows]) -> dict[str, dict[str, float | None]]:
    """Returns the mean scores of each method over the images that every method has a score for.

    Args:
        columns: For each method, the scores of every image in one order. NaN is no score.
    """
    rows = [[dict(row) for row in each] for each in columns.values()]
    for name in rows[0][0]:
        for index in range(len(rows[0])):
            if any(math.isnan(each[index][name]) for each in rows):
                for each in rows:
                    each[index][name] = math.nan
    means = {method: mean_scores(each) for method, each in zip(columns, rows, strict=True)}
    return {
        method: {k: None if math.isnan(v) else round(v, 6) for k, v in mean.items()}
        for method, mean in means.items()
    }


def measure(
    folder: Path, psnr_model: str, model: str, alphas: Sequence[float]
) -> Iterator[dict[str, Any]]:
    """Scores bicubic and blends of two networks on a folder of HR images.

    Args:
        folder: The HR images.
        psnr_model: Alpha 0.
        model: Alpha 1.
        alphas: Further alphas; those of the two networks come first.

    Yields:
        After alpha 0 and 1 and each further one: {"dataset", "scale", "images", "psnr_model",
        "model", "bicubic": scores, "network": [scores with their "alpha", …], "picture": …};
        scores are means by the names of METRICS.

    Raises:
        InputError: A network or an image cannot be read, or an image is too small to be scored.
        RunError: Weights of LPIPS or NIQE cannot be downloaded.
    """
    from esrgan_jax.evaluation.samples import bicubic, image_paths, read_pair
    from esrgan_jax.images.image_blend import blend
    from esrgan_jax.progress import Progress
    from esrgan_jax.upscaling.upscaler import SCORED, Upscaler

    metrics = load_metrics(METRICS)
    scale = Upscaler.load(model, **SCORED).scale
    pairs = [read_pair(path, lr, scale) for path, lr in image_paths(folder, None, scale)]
    order = [0.0, 1.0, *(alpha for alpha in alphas if alpha not in (0, 1))]
    results: dict[float, list[np.ndarray]] = {}
    columns: dict[str, Rows] = {}

    def score(images: Sequence[np.ndarray]) -> Rows:
        both = zip(images, pairs, strict=True)
        return [scores(image, pair.hr, scale, metrics) for image, pair in both]

    columns["bicubic"] = score([bicubic(scale)(pair.lr) for pair in pairs])
    with Progress(len(order) * len(pairs), "image", "scoring") as progress:
        for count, alpha in enumerate(order, 1):
            upscale = Upscaler.load(model, psnr_model=psnr_model, alpha=alpha, **SCORED)
            images: list[np.ndarray] = []
            for pair in pairs:
                images.append(upscale(pair.lr))
                progress.update(1)
            columns[f"network {alpha:g}"] = score(images)
            if alpha in (0, 1):
                results[alpha] = images
            else:
                ends = zip(results[0], results[1], strict=True)
                images = [blend(psnr, gan, alpha) for psnr, gan in ends]
            columns[f"picture {alpha:g}"] = score(images)
            if count > 1:
                means = complete_means(columns)
                done = sorted(order[:count])
                yield {
                    "dataset": folder.absolute().name,
                    "scale": scale,
                    "images": len(pairs),
                    "psnr_model": Path(psnr_model).stem,
                    "model": Path(model).stem,
                    "bicubic": means["bicubic"],
                    **{
                        kind: [{"alpha": a, **means[f"{kind} {a:g}"]} for a in done]
                        for kind in ("network", "picture")
                    },
                }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.alpha_scores",
        description="Score blends of a PSNR and a GAN network, and of their results.",
    )
    add = parser.add_argument
    add("hr", metavar="HR", type=path_type, help="folder of HR images")
    add("--output", metavar="FILE", type=path_type, required=True, help="the JSON file to write")
    add("--psnr_model", metavar="MODEL", type=model_type, default=PSNR, help=f"alpha 0 ({PSNR})")
    add("--model", metavar="MODEL", type=model_type, default=GAN, help=f"alpha 1 ({GAN})")
    add("--alphas", type=numbers, default=ALPHAS, help="alphas besides 0 and 1, such as 0.5,0.8")
    args = parse(parser, argv)
    if args.output.is_dir():
        raise InputError(f"--output={args.output} is a folder: give the name of a JSON file")
    for model in (args.psnr_model, args.model):
        refuse_same(Path(model), args.output)
    make_folder(args.output.parent)
    for found in measure(args.hr, args.psnr_model, args.model, args.alphas):
        write_text(args.output, json.dumps(found, indent=1) + "\n")
    print(args.output)


if __name__ == "__main__":
    run_command(main)
