"""Upscales picture files: `python -m esrgan_jax.upscale INPUT… --output=PATH --model=MODEL`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esrgan_jax.errors import InputError, RunError, listed, run_command
from esrgan_jax.interpolate import add_mixture_arguments
from esrgan_jax.upscale_jobs import STREAM, is_film, plan
from esrgan_jax.upscale_report import MODES, Report


def create_parser() -> argparse.ArgumentParser:
    """All options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m esrgan_jax.upscale",
        description="Upscale pictures, folders of pictures and films with an ESRGAN generator.",
        epilog="MODEL is a run or checkpoint directory, a weight file or a name of the zoo "
        "(python -m esrgan_jax.interop.zoo lists them); the scale is read from it.",
    )
    add = parser.add_argument
    add(
        "inputs",
        metavar="INPUT",
        nargs="+",
        type=_path,
        help="picture, film, folder, pattern ('photos/**/*.jpg'), or - for standard input",
    )
    add(
        "--output",
        metavar="PATH",
        required=True,
        type=_path,
        help="a file for one picture, - for standard output, otherwise a folder (folders keep "
        "their tree)",
    )

    networks = parser.add_argument_group("networks")
    networks.add_argument("--model", metavar="MODEL", help="the generator")
    add_mixture_arguments(networks)
    networks.add_argument(
        "--mix",
        metavar="MODEL=WEIGHT",
        nargs="+",
        type=_weighted,
        default=[],
        help="interpolate any number of networks, instead of --model",
    )
    networks.add_argument(
        "--then",
        metavar="MODEL",
        action="append",
        default=[],
        help="upscale the result with a further network; may be given several times",
    )

    results = parser.add_argument_group("results")
    add = results.add_argument
    add("--scale", metavar="S", type=float, help="size of the result over the input's, such as 2.5")
    add("--size", metavar="WxH", type=_size, help="size of the result; 1920x0 keeps the aspect")
    add("--strength", metavar="S", type=float, default=1.0, help="0 is bicubic, 1 the network")
    add("--color", choices=["keep"], help="correct colour drift of the network")
    add("--seamless", choices=["wrap", "mirror"], help="for textures that are repeated")
    add("--ensemble", action="store_true", help="mean of eight flipped and turned versions")

    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--format", metavar="EXT", help="of pictures in a folder: png (default), jpg, webp, …")
    add("--suffix", metavar="TEXT", default="", help="behind file names in a folder, such as _x4")
    add("--overwrite", action="store_true", help="do again what is there (default: skip it)")
    add("--depth", type=int, choices=[8, 16, 32], help="bits a channel (default: the input's)")
    add("--quality", metavar="Q", type=int, help="1 to 100 for JPEG, WebP, AVIF; CRF of films")
    add("--lossless", action="store_true", help="for WebP and AVIF")

    work = parser.add_argument_group("work")
    add = work.add_argument
    add("--tile", metavar="N", type=int, help="LR pixels of a tile (default: by the memory)")
    add("--overlap", metavar="N", type=int, help="LR pixels tiles share (default 112 or less)")
    add("--exact", action="store_true", help="overlap by all that the network sees")
    add("--dtype", choices=["float32", "bfloat16"], help="default: by the device")
    add("--spatial", action="store_true", help="split a picture over the devices, not its tiles")
    add("--share", metavar="I/N", type=_share, help="do part I (from 0) of N, one for each host")
    add("--progress", choices=MODES, default="bar", help="a bar, lines of JSON, or quiet")
    return parser


def _path(text: str) -> Path:
    if not text:  # an unset variable of the shell, and Path("") would be the whole current folder
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not cross or not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1920x1080")
    return int(width), int(height)


def _weighted(text: str) -> tuple[str, float]:
    model, _, weight = text.rpartition("=")
    try:
        return model, float(weight)
    except ValueError as error:
        message = f"{text!r} is not MODEL=WEIGHT, such as a.pth=0.5"
        raise argparse.ArgumentTypeError(message) from error


def _share(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(part), int(parts)


def _models(args: argparse.Namespace) -> list[Any]:
    """The chain of models, as `Upscaler.load` takes it."""
    if args.mix and (args.model or args.psnr_model):
        raise InputError("--mix names all networks: leave --model and --psnr_model out")
    if args.model is None and not args.mix:
        raise InputError(
            "no --model: give a run, a weight file or a name of the zoo "
            "(none ships with this package yet)"
        )
    mixed = dict(args.mix)
    if len(mixed) < len(args.mix):
        raise InputError("--mix names a network twice")
    return [mixed or args.model, *args.then]


def _pixels(jobs: Sequence[tuple[Path, Path]], upscaler: Any, wishes: Any) -> int:
    """Of all results; of what cannot be opened or is not known yet, none."""
    from esrgan_jax.film import open_film
    from esrgan_jax.picture import picture_size

    total = 0
    for source, _ in jobs:
        try:
            frames = 1
            if source == STREAM:
                continue
            if is_film(source):
                opened = open_film(source)
                frames, height, width = opened.frames, opened.height, opened.width
            else:
                height, width = picture_size(source)
            height, width = wishes.result_size(height, width, upscaler)
            total += frames * height * width
        except InputError:  # said when its turn comes
            continue
    return total


def main(argv: Sequence[str] | None = None) -> None:
    args = create_parser().parse_args(argv)
    models = _models(args)
    extension = f".{args.format.lower().lstrip('.')}" if args.format else None
    from esrgan_jax.picture_writer import WRITABLE

    if extension not in (None, *WRITABLE):
        raise InputError(f"--format={args.format}: choose of {', '.join(WRITABLE)}")
    jobs = plan(args.inputs, args.output, suffix=args.suffix, extension=extension)

    import jax

    from esrgan_jax.upscale_files import Wishes, upscale_files
    from esrgan_jax.upscaler import Upscaler, result_size

    part, parts = args.share or (jax.process_index(), jax.process_count())
    jobs = jobs[part::parts]
    there = [job for job in jobs if not args.overwrite and job[1] != STREAM and job[1].exists()]
    jobs = [job for job in jobs if job not in there]
    wishes = Wishes(
        args.scale, args.size, extension or ".png", args.depth, args.quality, args.lossless
    )
    result_size((1, 1), args.scale, args.size)  # what is wrong is told before a model is loaded
    out = sys.stderr if args.output == STREAM else sys.stdout
    upscaler = Upscaler.load(
        models,
        psnr_model=args.psnr_model,
        alpha=args.alpha,
        tile=args.tile,
        overlap=args.overlap,
        exact=args.exact,
        seamless=args.seamless,
        ensemble=args.ensemble,
        strength=args.strength,
        color=args.color,
        dtype=args.dtype,
        spatial=args.spatial,
    )
    with Report(args.progress, len(jobs), _pixels(jobs, upscaler, wishes), out) as report:
        for job in there:
            report.skipped(*job)
        upscale_files(upscaler, jobs, wishes, report)
    if report.failures:
        names = listed([str(source) for source, _ in report.failures])
        raise RunError(
            f"{len(report.failures)} of {len(jobs)} pictures could not be upscaled: {names}"
        )
    if args.progress == "bar":
        plural = "s" if len(jobs) != 1 else ""
        skipped = f", {len(there)} skipped as done (--overwrite does them again)" if there else ""
        shape = f"x{args.scale:g}" if args.scale else f"x{upscaler.scale}"
        if args.size:
            shape = "to {}x{}".format(*args.size)
        print(f"{len(jobs)} picture{plural} upscaled {shape}: {args.output}{skipped}", file=out)


if __name__ == "__main__":
    run_command(main)
