"""Parses the options of the upscale command and checks them before any file is read."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from esrgan_jax.batch.jobs import STREAM, Job, is_video
from esrgan_jax.batch.report import MODES
from esrgan_jax.blend import DEFAULT, add_blend_arguments, add_denoise_argument
from esrgan_jax.command_line import model_type, parse, path_type, program
from esrgan_jax.errors import InputError
from esrgan_jax.images.output_formats import OUTPUT_FORMATS, check_target, output_dtype
from esrgan_jax.video.video_file import WRITTEN

WORST_CRF = 63  # of any encoder
# Options that change the result; `made_by` compares them with the record in a result.
RECORDED = (
    *("scale", "size", "strength", "color", "seamless", "ensemble", "depth", "quality"),
    *("lossless", "overlap", "exact", "dtype"),
)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line and checks the options that need no file.

    Returns:
        The options, and these derived from them: `inputs` including those of -i, `is_folder` of the
        output, `models` as `Upscaler.load` takes them, `extension`, and `settings` for `made_by`.

    Raises:
        InputError: Options are wrong, or do not go together.
    """
    parser = upscale_parser()
    args = parse(parser, argv)
    args.models = _models(args)
    args.output, args.is_folder = args.output
    args.inputs += args.input
    if not args.inputs:
        raise InputError("nothing to upscale: name images, videos or folders, or - to read one")
    args.extension = f".{args.format.lower().lstrip('.')}" if args.format else None
    if args.extension not in (None, *OUTPUT_FORMATS, *WRITTEN):
        endings = ", ".join((*OUTPUT_FORMATS, *WRITTEN))
        raise InputError(f"--format={args.format}: choose one of {endings}")
    values = {name: getattr(args, name) for name in RECORDED}
    args.settings = {name: v for name, v in values.items() if v != parser.get_default(name)}
    return args


def upscale_parser() -> argparse.ArgumentParser:
    """Creates the parser with all options of the command."""
    parser = argparse.ArgumentParser(
        prog=program("upscale"),
        description="Upscale images, folders of images and videos with an ESRGAN generator.",
        epilog="MODEL is a run or checkpoint directory, a weight file or the name of "
        "published weights (esrgan-jax models lists them); the scale is read from it.",
    )
    add = parser.add_argument
    add(
        "inputs",
        metavar="INPUT",
        nargs="*",
        type=path_type,
        help="image, video, folder, pattern ('photos/**/*.jpg'), or - for standard input",
    )
    add(
        "-i",
        "--input",
        metavar="INPUT",
        nargs="+",
        action="extend",
        default=[],
        type=path_type,
        help="the same, with a flag",
    )
    add(
        "-o",
        "--output",
        metavar="PATH",
        required=True,
        type=_output,
        help="a file for one image, - for standard output, or a folder (subfolders are kept)",
    )

    networks = parser.add_argument_group("networks")
    networks.add_argument(
        "-n", "--model", metavar="MODEL", type=model_type, help=f"the generator ({DEFAULT})"
    )
    add_blend_arguments(networks)
    add_denoise_argument(networks)
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
        type=model_type,
        action="append",
        default=[],
        help="upscale the result with a further network; may be given several times",
    )

    results = parser.add_argument_group("results")
    add = results.add_argument
    add("-s", "--scale", metavar="S", type=float, help="result over input size, such as 2.5")
    add("--size", metavar="WxH", type=_size, help="size of the result; 1920x0 keeps the aspect")
    add("--strength", metavar="S", type=float, default=1.0, help="0 is bicubic, 1 the network")
    add("--color", choices=["keep"], help="correct colour drift of the network")
    add("--seamless", choices=["wrap", "mirror"], help="for textures that are tiled")
    add("--ensemble", action="store_true", help="mean of eight flipped and rotated versions")

    files = parser.add_argument_group("files")
    add = files.add_argument
    add(
        *("-f", "--format"),
        metavar="EXT",
        help="of images in a folder: png (default), jpg, …; of videos: mp4, mkv, webm",
    )
    add(
        "--suffix",
        metavar="TEXT",
        default="",
        type=_suffix,
        help="added to file names in a folder, such as _x4",
    )
    add(
        "--overwrite",
        action="store_true",
        help="replace existing files (default: skip those that the same command made, refuse "
        "others)",
    )
    add(
        "--depth", type=int, choices=[8, 10, 16, 32], help="bits per channel (default: the input's)"
    )
    add("--quality", metavar="Q", type=int, help="1 to 100 for JPEG, WebP, AVIF; CRF of videos")
    add("--lossless", action="store_true", help="for WebP, AVIF and videos in .mkv (FFV1)")

    work = parser.add_argument_group("work")
    add = work.add_argument
    add("-t", "--tile", metavar="N", type=int, help="LR pixels of a tile (default: by memory)")
    add("--overlap", metavar="N", type=int, help="LR pixels tiles share (default: 112 or less)")
    add("--exact", action="store_true", help="overlap by the whole receptive field")
    add("--dtype", choices=["float32", "bfloat16"], help="precision (default: by device)")
    add(
        "--spatial",
        action="store_true",
        help="split the columns of each image over the devices, instead of distributing its tiles",
    )
    add("--share", metavar="I/N", type=_share, help="do part I (from 0) of N, for several hosts")
    add("--progress", choices=MODES, default="bar", help="a bar, lines of JSON, or quiet")
    return parser


def _output(text: str) -> tuple[Path, bool]:
    """Returns the path, and whether it ends in a slash, which Path drops."""
    return path_type(text), text.endswith(("/", os.sep))


def _suffix(text: str) -> str:
    """Checks --suffix."""
    if "/" in text or os.sep in text:
        raise argparse.ArgumentTypeError(f"{text!r} contains a slash")
    return text


def _size(text: str) -> tuple[int, int]:
    """Parses --size to (width, height)."""
    width, cross, height = text.lower().partition("x")
    if not cross or not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, such as 1920x1080")
    return int(width), int(height)


def _weighted(text: str) -> tuple[str, float]:
    """Parses MODEL=WEIGHT of --mix."""
    model, _, weight = text.rpartition("=")
    try:
        if not math.isfinite(float(weight)):
            raise ValueError(weight)
        return model_type(model), float(weight)
    except ValueError as error:
        message = f"{text!r} is not MODEL=WEIGHT, such as a.pth=0.5"
        raise argparse.ArgumentTypeError(message) from error


def _share(text: str) -> tuple[int, int]:
    """Parses I/N of --share."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1")
    return int(part), int(parts)


def _models(args: argparse.Namespace) -> list[str | dict[str, float] | None]:
    """Returns the chain of models, as `Upscaler.load` takes it."""
    others = args.model, args.psnr_model, args.alpha, args.denoise
    if args.mix and any(other is not None for other in others):
        raise InputError(
            "--mix replaces --model, --psnr_model, --alpha and --denoise: leave them out"
        )
    weights: dict[str, float] = dict(args.mix)
    if len(weights) < len(args.mix):
        raise InputError("--mix names a network twice")
    if weights and abs(sum(weights.values()) - 1) > 0.005:
        total = f"{sum(weights.values()):g}"
        raise InputError(f"the weights of --mix sum to {total}, not to 1")
    return [weights or args.model, *args.then]  # None is the package's own


def check_files(args: argparse.Namespace, jobs: Sequence[Job]) -> None:
    """Checks before a model is loaded whether the results can be written.

    Raises:
        InputError: No format of the results has that quality or depth, or is lossless; or --format
            fits none of the inputs.
    """
    for_videos, extension = args.extension in WRITTEN, args.extension
    if extension and jobs and all(is_video(source) != for_videos for source, _ in jobs):
        format_of, each = ("videos", "an image") if for_videos else ("images", "a video")
        raise InputError(f"--format={extension[1:]} is for {format_of}, and each input is {each}")
    targets = [target for _, target in jobs]
    quality, videos = args.quality, any(is_video(target) for target in targets)
    if videos:
        if quality is not None and not 0 <= quality <= WORST_CRF:
            raise InputError(f"the quality {quality} is not from 0 (best) to {WORST_CRF}")
        return
    suffixes = {args.extension or ".png" if t == STREAM else t.suffix.lower() for t in targets}
    problems = [problem for suffix in suffixes if (problem := _problem(suffix, args))]
    if problems and len(problems) == len(suffixes):
        raise InputError(problems[0])
    if quality is not None and suffixes and not any(OUTPUT_FORMATS[s].lossy for s in suffixes):
        lossy = ", ".join(suffix for suffix, about in OUTPUT_FORMATS.items() if about.lossy)
        raise InputError(f"{', '.join(sorted(suffixes))} has no --quality; it is for {lossy}")


def _problem(suffix: str, args: argparse.Namespace) -> str | None:
    """Returns why no image can be written with this suffix, or None."""
    try:
        dtype = output_dtype(suffix, np.uint8, args.depth)
        options = {"quality": args.quality, "lossless": args.lossless}
        check_target(suffix, height=1, width=1, bands=3, dtype=dtype, **options)
    except InputError as error:
        return str(error)
    return None
