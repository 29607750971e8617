"""Scores interpolated networks and interpolated pictures for every alpha (paper, §4.5).

    python -m tools.alpha_scores Set5 --output=scores.json \\
        --psnr_model=RRDB_PSNR_x4.pth --model=RRDB_ESRGAN_x4.pth

"network" are the results of interpolated parameters, "picture" the interpolated results of the two
networks. Both are the same at alpha 0 and 1.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.blend import GAN, PSNR
from esrgan_jax.command_line import model_type, parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.evaluation.metrics import METRICS, load_metrics, mean_scores, scores
from esrgan_jax.files import write_text

STEPS = 10  # alphas are 0, 1/STEPS, …, 1
Rows = list[dict[str, float]]


def interpolate_pictures(psnr: np.ndarray, gan: np.ndarray, alpha: float) -> np.ndarray:
    """Returns (1 - alpha) · psnr + alpha · gan of uint8 images, rounded to uint8."""
    return np.rint((1 - alpha) * psnr.astype(np.float64) + alpha * gan).astype(np.uint8)


def complete_means(columns: Mapping[str, Rows]) -> dict[str, dict[str, float | None]]:
    """Returns the mean scores of each method over the images that every method has a score for.

    Args:
        columns: For each method, the scores of every image in one order. NaN is no score.
    """
    rows = [*columns.values()]
    for name in rows[0][0]:
        for index in range(len(rows[0])):
            if any(math.isnan(each[index][name]) for each in rows):
                for each in rows:
                    each[index][name] = math.nan
    means = {method: mean_scores(each) for method, each in columns.items()}
    return {
        method: {k: None if math.isnan(v) else round(v, 6) for k, v in mean.items()}
        for method, mean in means.items()
    }


def measure(folder: Path, psnr_model: str, model: str, steps: int = STEPS) -> dict[str, Any]:
    """Scores bicubic and every blend of two networks on a folder of HR images.

    Returns:
        {"dataset", "scale", "images", "psnr_model", "model", "bicubic": scores, "network": [scores
        with their "alpha", …], "picture": …}; scores are means by the names of METRICS.

    Raises:
        InputError: A network or an image cannot be read, or an image is too small to be scored.
        RunError: Weights of LPIPS or NIQE cannot be downloaded.
    """
    from esrgan_jax.evaluation.samples import bicubic, image_paths, read_pair
    from esrgan_jax.progress import Progress
    from esrgan_jax.upscaling.upscaler import SCORED, Upscaler

    metrics = load_metrics(METRICS)
    scale = Upscaler.load(model, **SCORED).scale
    pairs = [read_pair(path, lr, scale) for path, lr in image_paths(folder, None, scale)]
    alphas = [step / steps for step in range(steps + 1)]
    results: dict[float, list[np.ndarray]] = {}
    columns: dict[str, Rows] = {}

    def score(method: str, images: Sequence[np.ndarray]) -> None:
        columns[method] = [
            scores(image, pair.hr, scale, metrics)
            for image, pair in zip(images, pairs, strict=True)
        ]

    score("bicubic", [bicubic(scale)(pair.lr) for pair in pairs])
    with Progress(len(alphas) * len(pairs), "image", "scoring") as progress:
        # The two networks first, since their results are the pictures to interpolate.
        for alpha in [0.0, 1.0, *alphas[1:-1]]:
            upscale = Upscaler.load(model, psnr_model=psnr_model, alpha=alpha, **SCORED)
            images: list[np.ndarray] = []
            for pair in pairs:
                images.append(upscale(pair.lr))
                progress.update(1)
            score(f"network {alpha:g}", images)
            if alpha in (0, 1):
                results[alpha] = images
            ends = zip(results[0], results.get(1, results[0]), strict=True)
            score(f"picture {alpha:g}", [interpolate_pictures(*end, alpha) for end in ends])
    means = complete_means(columns)
    kinds = {
        kind: [{"alpha": alpha, **means[f"{kind} {alpha:g}"]} for alpha in alphas]
        for kind in ("network", "picture")
    }
    return {
        "dataset": folder.absolute().name,
        "scale": scale,
        "images": len(pairs),
        "psnr_model": Path(psnr_model).stem,
        "model": Path(model).stem,
        "bicubic": means["bicubic"],
        **kinds,
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
    args = parse(parser, argv)
    if args.output.is_dir():
        raise InputError(f"--output={args.output} is a folder: give the name of a JSON file")
    found = measure(args.hr, args.psnr_model, args.model)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(args.output, json.dumps(found, indent=1) + "\n")
    print(args.output)


if __name__ == "__main__":
    run_command(main)
