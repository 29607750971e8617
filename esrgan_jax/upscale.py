"""Upscales picture files: `python -m esrgan_jax.upscale INPUT… --output=PATH --model=MODEL`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from esrgan_jax.errors import InputError, RunError, run_command
from esrgan_jax.interpolate import add_mixture_arguments
from esrgan_jax.picture import SUFFIXES, find_pictures, read_picture, to_channels, write_picture
from esrgan_jax.progress import Progress


def plan(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Which file each input picture becomes.

    Args:
        inputs: Pictures and folders; a folder stands for all pictures in it and keeps its tree.
        output: A file ending in .png for one picture, otherwise a folder.

    Returns:
        (source, target) pairs; every target ends in .png and no two are the same.

    Raises:
        InputError: an input is missing, two pictures would become one file, or one that is read
            would be overwritten.
    """
    for path in inputs:
        if not path.exists():
            raise InputError(f"no picture or folder {path}")
    suffix = "" if output.is_dir() else output.suffix.lower()
    if suffix == ".png":
        if len(inputs) > 1 or inputs[0].is_dir():
            raise InputError(f"--output={output} is one file; name a folder for several pictures")
        jobs = [(inputs[0], output)]
    else:
        if output.is_file() or suffix in SUFFIXES:
            raise InputError(f"--output={output}: only PNG is written; name a .png or a folder")
        jobs = [job for path in inputs for job in _targets(path, output)]

    sources = {source.resolve(): source for source, _ in jobs}
    origin: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() in sources:
            raise InputError(
                f"{target} would overwrite a picture to be read; take another --output"
            )
        other = origin.setdefault(target, source)
        if other is not source:
            raise InputError(
                f"{other} and {source} would both be written to {target}; "
                "rename one or upscale them into two folders"
            )
    return jobs


def _targets(path: Path, output: Path) -> list[tuple[Path, Path]]:
    if not path.is_dir():
        return [(path, output / f"{path.stem}.png")]
    if output.resolve() == path.resolve():
        raise InputError(f"--output={output} is the input folder; take another one")
    # Results of an earlier run inside the input folder are not upscaled a second time.
    pictures = [p for p in find_pictures(path) if output.resolve() not in p.resolve().parents]
    return [(p, output / p.relative_to(path).with_suffix(".png")) for p in pictures]


def _path(text: str) -> Path:
    if not text:  # an unset variable of the shell, and Path("") would be the whole current folder
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m esrgan_jax.upscale",
        description="Upscale pictures and folders of pictures with an ESRGAN generator, into PNG.",
        epilog="MODEL is a run or checkpoint directory, a weight file or a name of the zoo "
        "(python -m esrgan_jax.interop.zoo lists them); the scale is read from it.",
    )
    parser.add_argument("inputs", metavar="INPUT", nargs="+", type=_path, help="picture or folder")
    parser.add_argument(
        "--output",
        metavar="PATH",
        required=True,
        type=_path,
        help="a .png file for one picture, otherwise a folder (folders keep their tree)",
    )
    parser.add_argument("--model", metavar="MODEL", help="the generator")
    add_mixture_arguments(parser)
    parser.add_argument(
        "--tile",
        metavar="N",
        type=int,
        help="upscale in tiles of N LR pixels, for pictures too large for the memory",
    )
    parser.add_argument(
        "--overlap", metavar="N", type=int, default=32, help="LR pixels tiles share (default 32)"
    )
    args = parser.parse_args(argv)
    if args.model is None:
        raise InputError(
            "no --model: give a run, a weight file or a name of the zoo "
            "(none ships with this package yet)"
        )
    jobs = plan(args.inputs, args.output)

    from jax.errors import JaxRuntimeError

    from esrgan_jax.upscaler import Upscaler

    upscaler = Upscaler.load(
        args.model,
        psnr_model=args.psnr_model,
        alpha=args.alpha,
        tile=args.tile,
        overlap=args.overlap,
    )
    failed = []
    with Progress(len(jobs), "picture", "upscaling") as progress:
        for source, target in jobs:
            try:
                lr = to_channels(read_picture(source), upscaler.module.in_channels)
                write_picture(target, upscaler(lr))
            except (InputError, RunError) as error:
                failed.append(source)
                progress.write(f"not done: {source}: {str(error).removeprefix(f'{source}: ')}")
            except (JaxRuntimeError, MemoryError) as error:
                failed.append(source)
                reason = str(error).partition("\n")[0]
                progress.write(f"not done: {source}: {reason} (a smaller --tile takes less memory)")
            progress.update(note=target.name)
    if failed:
        names = ", ".join(map(str, failed))
        raise RunError(f"{len(failed)} of {len(jobs)} pictures could not be upscaled: {names}")
    plural = "s" if len(jobs) != 1 else ""
    print(f"{len(jobs)} picture{plural} upscaled x{upscaler.scale}: {args.output}")


if __name__ == "__main__":
    run_command(main)
