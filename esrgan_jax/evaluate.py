"""The command that compares networks with each other and with bicubic."""

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.blend import DEFAULT, add_blend_arguments, add_denoise_argument
from esrgan_jax.command_line import model_type, parse, path_type, program
from esrgan_jax.errors import InputError, RunError, listed, run_command
from esrgan_jax.evaluation.metrics import METRICS, SCORES, load_metrics, scores
from esrgan_jax.files import refuse_same, too_long, write_text

MOST_ROWS = 8  # images in a --sheet


def create_parser() -> argparse.ArgumentParser:
    """Returns a parser of all options of the command."""
    parser = argparse.ArgumentParser(
        prog=program("evaluate"),
        description="Score one or several models on a folder of images, compared with bicubic.",
        epilog="MODEL is a run or checkpoint directory, a weight file or the name of "
        "published weights (esrgan-jax models lists them). "
        "The scale is read from it.",
    )
    add = parser.add_argument
    add(
        "--model",
        metavar="MODEL",
        type=model_type,
        action="append",
        default=[],
        help=f"a generator; repeat for several, all of one scale ({DEFAULT})",
    )
    add(
        "--hr",
        metavar="DIR",
        required=True,
        type=path_type,
        help="folder of HR images; they are cropped to a multiple of the scale",
    )
    add(
        "--lr",
        metavar="DIR",
        type=path_type,
        help="folder of LR images with the same names (NAME.* or NAMEx4.*; docs/data.md); "
        "default: LR images are made from HR by MATLAB's bicubic",
    )
    add_blend_arguments(parser)
    add_denoise_argument(parser)
    add(
        "--metrics",
        metavar="NAMES",
        default=",".join(SCORES),
        help=f"the columns in order, from {','.join(METRICS)} (default: %(default)s)",
    )
    add("--json", metavar="FILE", type=path_type, help="write the scores as JSON")
    add("--csv", metavar="FILE", type=path_type, help="write a line for each image and method")
    add(
        "--markdown",
        metavar="FILE",
        type=path_type,
        help="write tables for GitHub, the best scores in bold",
    )
    add(
        "--sheet",
        metavar="FILE",
        type=path_type,
        help=f"write a figure: crops of up to {MOST_ROWS} images by every method (.png, .jpg, …)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
        InputError: An option is wrong, an output cannot be written, or no image can be scored.
        RunError: Some images could not be scored.
    """
    args = parse(create_parser(), argv)
    # Imported here so that --help is quick: these modules import JAX and libvips.
    from esrgan_jax.compilation import keep_programs
    from esrgan_jax.evaluation.comparison import sheet
    from esrgan_jax.evaluation.contestants import BICUBIC, load_contestants
    from esrgan_jax.evaluation.samples import bicubic, image_paths, read_pair, readable, sheet_row
    from esrgan_jax.evaluation.score_table import score_table
    from esrgan_jax.images.writer import write_rows
    from esrgan_jax.progress import Progress
    from esrgan_jax.sharding import split_cpu

    split_cpu()
    keep_programs()
    # Cheap checks come first, before models are loaded and before hours of work.
    _check_outputs(args)
    metrics = load_metrics(dict.fromkeys(args.metrics.split(",")))
    models = load_contestants(args.model, args.psnr_model, args.alpha, args.denoise)
    scale = next(iter(models.values())).scale
    paths = image_paths(args.hr, args.lr, scale)
    methods = {BICUBIC: bicubic(scale), **models}
    columns: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    chosen = readable(paths, scale, MOST_ROWS) if args.sheet else set()
    figure = []
    with Progress(len(paths) * len(models), "image", "evaluating") as progress:
        for index, (hr_path, lr_path) in enumerate(paths):
            name = hr_path.relative_to(args.hr).as_posix()
            progress.update(0, note=name)
            try:
                pair = read_pair(hr_path, lr_path, scale, name)
            except InputError as error:
                progress.write(f"left out: {error}")
                progress.update(len(models))
                continue
            results, rows = {}, {}
            for method, upscale in methods.items():
                sr = results[method] = upscale(pair.lr)
                rows[method] = {"name": name, **scores(sr, pair.hr, scale, metrics)}
                progress.update(method in models)
            # The means of all methods must be over the same images.
            for metric in metrics:
                if any(math.isnan(row[metric]) for row in rows.values()):
                    rows = {method: {**row, metric: math.nan} for method, row in rows.items()}
            for method, row in rows.items():
                columns[method].append(row)
            if index in chosen:
                figure.append(sheet_row(pair, results, rows))
    scored = columns[BICUBIC]
    if not scored:
        raise InputError(f"none of {len(paths)} images can be scored: see the lines above")
    for name in metrics:
        if unscored := [row["name"] for row in scored if math.isnan(row[name])]:
            print(
                f"{name}: {len(unscored)} of {len(scored)} images have no value, since it needs "
                f"{METRICS[name].needs} inside the border: {listed(unscored)}",
                file=sys.stderr,
            )
    print(score_table(columns))
    _write(args, scale, columns)
    if args.sheet and len(figure) < len(scored):
        print(f"{args.sheet}: {len(figure)} of {len(scored)} images are shown")
    if figure:
        array = sheet(figure)
        height, width, bands = array.shape
        write_rows(args.sheet, [array], height=height, width=width, bands=bands, dtype=array.dtype)
    if len(scored) < len(paths):
        raise RunError(
            f"{len(paths) - len(scored)} of {len(paths)} images were left out of the means"
        )


def _write(args: argparse.Namespace, scale: int, columns: Mapping[str, Any]) -> None:
    """Writes the tables that the options ask for."""
    from esrgan_jax.evaluation.score_table import csv_text, markdown, report

    dataset = args.hr.resolve().name
    _, first, *others = columns.values()
    if args.json:
        result = report(dataset, scale, first, columns if others else None)
        write_text(args.json, json.dumps(result, indent=2, allow_nan=False) + "\n")
    if args.csv:
        write_text(args.csv, csv_text(columns))
    if args.markdown:
        title = f"{dataset}, x{scale}, mean of {len(first)}"
        write_text(args.markdown, markdown(title, columns))


def _check_outputs(args: argparse.Namespace) -> None:
    """Raises InputError if an output cannot be written or would replace an input or another."""
    from esrgan_jax.images.image_file import find_images
    from esrgan_jax.images.writer import check_target

    inputs = [image for folder in (args.hr, args.lr) if folder for image in find_images(folder)]
    inputs += [Path(model) for model in (*(args.model or ()), args.psnr_model) if model]
    taken: dict[Path, str] = {}
    for name in ("json", "csv", "markdown", "sheet"):
        if path := getattr(args, name):
            _check_writable(f"--{name}={path}", path)
            for source in inputs:
                refuse_same(source, path)
            if (other := taken.setdefault(path.resolve(), name)) != name:
                raise InputError(f"--{other} and --{name} are both {path}: give two names")
    if args.sheet:
        try:
            check_target(args.sheet.suffix, height=1, width=1, bands=3, dtype=np.uint8)
        except InputError as error:
            raise InputError(f"--sheet={args.sheet}: {error}") from None


def _check_writable(option: str, path: Path) -> None:
    """Makes the folder of a file; raises InputError if the file cannot be written."""
    if reason := too_long(path):
        raise InputError(f"{option} cannot be written: {reason}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} cannot be written: {error}") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        reason = "it is a folder" if path.is_dir() else f"{path.parent} is read-only"
        raise InputError(f"{option} cannot be written: {reason}")


if __name__ == "__main__":
    run_command(main)
