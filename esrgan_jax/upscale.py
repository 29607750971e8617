"""Upscales picture files: `python -m esrgan_jax.upscale INPUT… --output=PATH [--model=MODEL]`."""

import argparse
import io
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from esrgan_jax.errors import InputError, RunError, listed, run_command
from esrgan_jax.films import parts as film_parts
from esrgan_jax.mixture import DEFAULT, add_mixture_arguments
from esrgan_jax.upscaling import made_by
from esrgan_jax.upscaling.jobs import STREAM, Job, Wishes, is_film, plan
from esrgan_jax.upscaling.report import MODES, Report

# The options that change pixels or files; `made_by` compares them with what a result says.
RECORDED = (
    *("scale", "size", "strength", "color", "seamless", "ensemble", "depth", "quality"),
    *("lossless", "overlap", "exact", "dtype"),
)
CLEANING_SECONDS = 5  # in which a second Ctrl-C is not needed; later it ends the process at once


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
    networks.add_argument("--model", metavar="MODEL", help=f"the generator ({DEFAULT})")
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
    add(
        "--overwrite",
        action="store_true",
        help="replace files that are there (default: skip what the same command made, refuse else)",
    )
    add("--depth", type=int, choices=[8, 10, 16, 32], help="bits a channel (default: the input's)")
    add("--quality", metavar="Q", type=int, help="1 to 100 for JPEG, WebP, AVIF; CRF of films")
    add("--lossless", action="store_true", help="for WebP, AVIF and films in .mkv (FFV1)")

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
    if args.mix and (args.model, args.psnr_model, args.alpha) != (None, None, None):
        raise InputError(
            "--mix names networks and their weights: leave --model, --psnr_model and --alpha out"
        )
    mixed = dict(args.mix)
    if len(mixed) < len(args.mix):
        raise InputError("--mix names a network twice")
    if mixed and abs(sum(mixed.values()) - 1) > 0.005:
        total = f"{sum(mixed.values()):g}"
        raise InputError(f"the weights of --mix sum to {total}: let them sum to 1")
    return [mixed or args.model, *args.then]  # None is the package's own


def main(argv: Sequence[str] | None = None) -> None:
    parser = create_parser()
    args = parser.parse_args(argv)
    models = _models(args)
    extension = f".{args.format.lower().lstrip('.')}" if args.format else None
    from esrgan_jax.pictures.writer import WRITABLE

    if extension not in (None, *WRITABLE):
        raise InputError(f"--format={args.format}: choose of {', '.join(WRITABLE)}")
    jobs = plan(args.inputs, args.output, suffix=args.suffix, extension=extension)
    _check_quality(args, jobs, extension)

    import jax

    from esrgan_jax.compilation import keep_programs
    from esrgan_jax.upscaler import Upscaler, result_size
    from esrgan_jax.upscaling.files import read_stream, upscale_files

    part, parts = args.share or (jax.process_index(), jax.process_count())
    jobs = jobs[part::parts]
    _refuse_foreign(args, jobs)
    asked = {name: getattr(args, name) for name in RECORDED}
    settings = {name: v for name, v in asked.items() if v != parser.get_default(name)}
    wishes = Wishes(
        *(args.scale, args.size, extension or ".png", args.depth, args.quality, args.lossless),
        settings=settings,
    )
    result_size((1, 1), args.scale, args.size)  # what is wrong is told before a model is loaded
    out = sys.stderr if args.output == STREAM else sys.stdout
    keep_programs()
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
    stream = read_stream(jobs)
    if args.overwrite:
        for _, target in jobs:
            film_parts.remove(target)
    there = {} if args.overwrite else _there(jobs, stream, upscaler.name, settings)
    done = [job for job, differs in there.items() if differs is None]
    left = [job for job in jobs if job not in there]
    count = len(jobs) - len(done)
    if len(jobs) == 1 and args.output == jobs[0][1] and (differs := there.get(jobs[0])):
        raise _not_replaced(args.output, differs)
    try:
        with Report(args.progress, count, out) as report:
            for job in done:
                report.skipped(*job)
            for job, differs in there.items():
                if differs is not None:
                    report.failed(job[0], _not_replaced(job[1], differs))
            upscale_files(upscaler, left, wishes, report, stream)
    except BrokenPipeError as error:
        raise RunError("nobody reads the standard output any more: stopped") from error
    if report.failures:
        names = listed([name for name, _ in report.failures])
        raise RunError(f"{len(report.failures)} of {count} pictures could not be upscaled: {names}")
    if args.progress == "bar":
        plural = "s" if len(left) != 1 else ""
        skipped = f", {len(done)} skipped as done (--overwrite does them again)" if done else ""
        shape = f"x{args.scale:g}" if args.scale else f"x{upscaler.scale}"
        if args.size:
            shape = "to {}x{}".format(*args.size)
        print(f"{len(left)} picture{plural} upscaled {shape}: {args.output}{skipped}", file=out)


def _refuse_foreign(args: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """InputError where the one file to write is there and no result: told before a model loads."""
    if args.overwrite or len(jobs) != 1 or args.output != jobs[0][1] or args.output == STREAM:
        return
    if os.path.isfile(args.output) and made_by.find(args.output) is None:
        raise _not_replaced(args.output, str(made_by.difference(None, "")))


def _there(
    jobs: Sequence[Job], stream: bytes, networks: str, settings: Mapping[str, Any]
) -> dict[Job, str | None]:
    """The jobs whose target is there, with how it differs from what they would write, or None."""
    there: dict[Job, str | None] = {}
    for source, target in jobs:
        if target == STREAM or not os.path.isfile(target):
            continue
        content = stream if source == STREAM else source
        with suppress(InputError):  # a source that cannot be read is told of with the others
            wanted = made_by.record(networks, content, settings)
            there[source, target] = made_by.difference(made_by.find(target), wanted)
    return there


def _not_replaced(target: Path, differs: str) -> InputError:
    return InputError(
        f"{target}: is there and {differs}. Take another --output, or --overwrite to replace it"
    )


def _check_quality(args: argparse.Namespace, jobs: Sequence[Job], extension: str | None) -> None:
    """InputError where --quality has no meaning for any of the results."""
    from esrgan_jax.pictures.formats import FORMATS

    targets = [target for _, target in jobs]
    suffixes = {extension or ".png" if t == STREAM else t.suffix.lower() for t in targets}
    if args.quality is None or any(is_film(target) for target in targets):
        return
    if suffixes and not any(FORMATS[suffix].lossy for suffix in suffixes):
        lossy = ", ".join(suffix for suffix, about in FORMATS.items() if about.lossy)
        raise InputError(f"{', '.join(sorted(suffixes))} has no --quality; it is for {lossy}")


def run() -> NoReturn:
    """`main` for a shell: it ends soon and without a word of Python's when it is stopped."""
    first: list[tuple[int, float]] = []  # the signal that stops it, and when it came

    def stop(number: int, _: Any) -> None:
        if not first:
            first.append((number, time.monotonic()))
            raise KeyboardInterrupt
        if time.monotonic() - first[0][1] > CLEANING_SECONDS:
            os._exit(128 + number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as of nohup
            signal.signal(number, stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be any bytes
            stream.reconfigure(errors="backslashreplace")
    try:
        run_command(main)
    except SystemExit as end:
        # Python's own end would wait for the tiles that the device still computes, and speak of
        # what it could not write to a pipe that is closed.
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            os._exit(int(end.code or 1))
        if first:
            os._exit(128 + first[0][0])
        raise


if __name__ == "__main__":
    run()
