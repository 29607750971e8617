"""PSNR and SSIM of a model beside bicubic, as papers report them (see `metrics.py`)."""

import argparse
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from esrgan_jax.data import pairs
from esrgan_jax.errors import InputError, RunError, run_command
from esrgan_jax.files import replacing
from esrgan_jax.interpolate import add_mixture_arguments
from esrgan_jax.metrics import SSIM_WINDOW, scores
from esrgan_jax.picture import find_pictures, read_picture
from esrgan_jax.progress import Progress

SCORES = ("psnr_y", "ssim_y", "psnr_rgb")


class Pair(NamedTuple):
    """A picture to evaluate on: `lr` (H, W, 3) uint8 and the truth `hr` (scale H, scale W, 3)."""

    name: str
    lr: np.ndarray
    hr: np.ndarray


def find_pairs(hr: Path, scale: int, lr: Path | None = None) -> list[tuple[Path, Path | None]]:
    """The HR pictures of a folder (recursive), each with its LR picture where `lr` is given.

    Raises:
        InputError: As `picture.find_pictures` and, with `lr`, `data.pairs.find_pairs`.
    """
    if lr is None:
        return [(path, None) for path in find_pictures(hr)]
    return [*pairs.find_pairs(hr, lr, scale)]


def read_pair(hr_path: Path, lr_path: Path | None, scale: int, name: str | None = None) -> Pair:
    """Reads a picture, mod-cropped to the scale, and its LR; without `lr_path` MATLAB's bicubic.

    Raises:
        InputError: a picture cannot be read or is too small to be scored, or the sizes do not fit.
    """
    from esrgan_jax.data.resize import imresize, mod_crop

    hr = mod_crop(read_picture(hr_path), scale)
    height, width = hr.shape[:2]
    least = SSIM_WINDOW + 2 * scale
    if min(height, width) < least:
        raise InputError(f"{hr_path} is smaller than {least} px, too small to be scored")
    lr = imresize(hr, 1 / scale) if lr_path is None else read_picture(lr_path)
    if (lr.shape[0] * scale, lr.shape[1] * scale) != (height, width):
        raise InputError(
            f"{lr_path} has {lr.shape[1]}x{lr.shape[0]} px, but 1/{scale} of {hr_path} has "
            f"{width // scale}x{height // scale}; is it the LR of another scale?"
        )
    return Pair(name or hr_path.name, lr, hr)


def evaluate_pairs(
    upscale: Callable[[np.ndarray], np.ndarray], pairs: Iterable[Pair], scale: int
) -> list[dict[str, Any]]:
    """Scores of an upscaling function on each pair, a border of `scale` pixels left out.

    Args:
        upscale: (H, W, 3) uint8 -> (scale H, scale W, 3) uint8.
        pairs: (name, lr, hr), such as `read_pair` gives.
        scale: SR size over LR size.

    Returns:
        For each pair its "name" and the scores of `metrics.scores`.
    """
    return [{"name": name, **scores(upscale(lr), hr, scale)} for name, lr, hr in pairs]


def mean_scores(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean over pictures of each score."""
    return {key: float(np.mean([row[key] for row in rows])) for key in SCORES}


def bicubic(scale: int) -> Callable[[np.ndarray], np.ndarray]:
    """MATLAB's bicubic as an upscaling function of uint8 pictures."""
    from esrgan_jax.data.resize import imresize

    return lambda lr: imresize(lr, scale)


def table(columns: dict[str, list[dict[str, Any]]]) -> str:
    """A text table: a row for each picture and their mean, three scores for each method."""
    rows = {
        method: [*scored, {"name": "mean", **mean_scores(scored)}]
        for method, scored in columns.items()
    }
    names = [row["name"] for row in next(iter(rows.values()))]
    width = max(len(name) for name in [*names, "picture"])
    cells = "{:>8} {:>7} {:>9}"
    head = cells.format("PSNR-Y", "SSIM-Y", "PSNR-RGB")
    lines = [
        "  ".join([" " * width, *(f"{method:^{len(head)}}" for method in rows)]),
        "  ".join([f"{'picture':{width}}", *(head for _ in rows)]),
    ]
    for index, name in enumerate(names):
        values = [
            cells.format(f"{row['psnr_y']:.2f}", f"{row['ssim_y']:.4f}", f"{row['psnr_rgb']:.2f}")
            for row in (scored[index] for scored in rows.values())
        ]
        lines.append("  ".join([f"{name:{width}}", *values]))
    lines.insert(-1, "-" * len(lines[-1]))
    return "\n".join(line.rstrip() for line in lines)


def report(dataset: str, scale: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores as JSON can hold them: what is no finite number becomes null.

    PSNR of equal pictures is infinite.
    """

    def finite(row: dict[str, Any]) -> dict[str, Any]:
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }

    return {
        "dataset": dataset,
        "scale": scale,
        "images": [finite(row) for row in rows],
        "mean": finite(mean_scores(rows)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; RunError (exit code 1) where some picture could not be scored."""
    parser = argparse.ArgumentParser(
        prog="python -m esrgan_jax.evaluate",
        description="PSNR and SSIM on luma and PSNR on RGB of a model, beside bicubic.",
        epilog="MODEL is a run or checkpoint directory, a weight file or a name of the zoo; "
        "the scale is read from it.",
    )
    parser.add_argument("--model", metavar="MODEL", required=True, help="the generator")
    parser.add_argument(
        "--hr", metavar="DIR", required=True, type=Path, help="folder of HR pictures, uncropped"
    )
    parser.add_argument(
        "--lr",
        metavar="DIR",
        type=Path,
        help="folder of LR pictures of the same names (NAME.* or NAMEx4.*; docs/data.md); "
        "left out, they are made by MATLAB's bicubic",
    )
    add_mixture_arguments(parser)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the model's scores here")
    args = parser.parse_args(argv)
    find_pictures(args.hr)  # what is wrong already is told before a model is loaded
    if args.json:
        _check_writable(args.json)

    from esrgan_jax.upscaler import Upscaler

    upscaler = Upscaler.load(args.model, psnr_model=args.psnr_model, alpha=args.alpha)
    paths = find_pairs(args.hr, upscaler.scale, args.lr)
    methods = {"bicubic": bicubic(upscaler.scale), "model": upscaler}
    columns: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    with Progress(len(paths), "picture", "evaluating") as progress:
        for hr_path, lr_path in paths:
            name = hr_path.relative_to(args.hr).as_posix()
            progress.update(note=name)
            try:
                pair = read_pair(hr_path, lr_path, upscaler.scale, name)
            except InputError as error:
                progress.write(f"left out: {error}")
                continue
            for method, upscale in methods.items():
                columns[method] += evaluate_pairs(upscale, [pair], upscaler.scale)
    scored = len(columns["model"])
    if not scored:
        raise InputError(f"none of {len(paths)} pictures can be scored: see the lines above")
    print(table(columns))
    if args.json:
        result = report(args.hr.resolve().name, upscaler.scale, columns["model"])
        with replacing(args.json) as partial:
            partial.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    if scored < len(paths):
        raise RunError(f"{len(paths) - scored} of {len(paths)} pictures were left out of the means")


def _check_writable(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--json={path} cannot be written: {error}") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        reason = "it is a folder" if path.is_dir() else f"{path.parent} is read-only"
        raise InputError(f"--json={path} cannot be written: {reason}")


if __name__ == "__main__":
    run_command(main)
