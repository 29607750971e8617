"""Cuts folders of HR photographs into sub-images for fast training."""

import argparse
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.data.sources import TFDS
from esrgan_jax.errors import InputError, RunError, missing, run_command
from esrgan_jax.images.image_file import find_images, image_size, read_image
from esrgan_jax.progress import Progress


def main() -> int:
    """Runs the command; returns its exit code."""
    args = _parse()
    try:
        from esrgan_jax.data.builder import (
            SHARD_BYTES,
            cut,
            partial_folder,
            window_starts,
            write_sub_images,
        )
    except ImportError as error:
        raise missing(*TFDS) from error

    partial_folder(args.output)
    folders = list(dict.fromkeys(args.input))
    table = {folder: Counter() for folder in folders}
    rule = (args.size, args.step, args.leftover)

    # Headers are read first, to know how many windows there are and how much space they need.
    paths = [(folder, path) for folder in folders for path in find_images(folder)]
    jobs: list[tuple[Path, Path, int]] = []
    with Progress(len(paths), "image", "reading headers") as progress:
        for folder, path in paths:
            table[folder]["images"] += 1
            progress.update()
            try:
                height, width = image_size(path)
            except InputError as error:
                table[folder]["unreadable"] += 1
                progress.write(f"left out: {error}")
                continue
            windows = len(window_starts(height, *rule)) * len(window_starts(width, *rule))
            if windows:
                jobs.append((folder, path, windows))
            else:
                table[folder]["too small"] += 1
                progress.write(
                    f"left out: {path}: {width}x{height} pixels, smaller than {args.size}"
                )
    if not jobs:
        _print_table(table, 0)
        raise InputError(f"no image contains a window of {args.size} pixels; use a smaller --size")
    total = sum(windows for _, _, windows in jobs)
    record = 3 * args.size**2
    _check_space(args.output, total * record)

    with Progress(total, "sub-image", "cutting") as progress:

        def examples(jobs: list[tuple[Path, Path, int]]) -> Iterator[tuple[str, np.ndarray]]:
            for folder, path, windows in jobs:
                try:
                    image = read_image(path)
                except InputError as error:
                    table[folder]["unreadable"] += 1
                    progress.write(f"left out: {error}")
                    progress.update(windows)
                    continue
                name = f"{folder.name}/{path.relative_to(folder).with_suffix('').as_posix()}"
                for number, window in enumerate(cut(image, *rule), 1):
                    table[folder]["sub-images"] += 1
                    progress.update(note=path.name)
                    yield f"{name}_s{number:03d}", window

        shards = _shards(jobs, max(SHARD_BYTES // record, 1))
        write_sub_images(args.output, [lambda part=part: examples(part) for part in shards])

    written = sum(count["sub-images"] for count in table.values())
    _print_table(table, written * record)
    if not written:
        shutil.rmtree(args.output)
        raise InputError(f"{args.output} was not made: no image could be read")
    print(f"train on this folder with --config.data.train={args.output}")
    return 1 if any(count["unreadable"] for count in table.values()) else 0


def _parse() -> argparse.Namespace:
    """Parses the options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--input", type=path_type, nargs="+", action="extend", required=True, metavar="DIR",
        help="folders of HR images, including sub-folders; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=path_type, required=True, metavar="DIR",
        help="the folder to create; training reads it by --config.data.train=DIR",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=_at_least(1), default=480,
        help="side of a sub-image in pixels; multiples of 12 suit the scales 2, 3 and 4 "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--step",
        type=_at_least(1),
        default=240,
        help="pixels from one sub-image to the next (default: %(default)s)",
    )
    parser.add_argument(
        "--leftover", type=_at_least(0), default=48,
        help="add a sub-image at the end of an axis if more pixels than this are left: 48 as in "
        "the ESRGAN authors' code of 2019, 0 as in today's BasicSR (default: %(default)s)",
    )  # fmt: skip
    return parse(parser)


def _at_least(least: int) -> Callable[[str], int]:
    """Returns a parser of whole numbers that are `least` or more."""

    def number(text: str) -> int:
        if not text.removeprefix("-").isdecimal():
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}")
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more")
        return int(text)

    return number


def _check_space(output: Path, needed: int) -> None:
    """Raises RunError if `needed` bytes are not free on the disk of `output`."""
    parent = output.absolute().parent
    while not parent.exists():
        parent = parent.parent
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise RunError(
            f"{output}: needs {needed / 1e9:.1f} GB, but {parent} has {free / 1e9:.1f} GB free"
        )


def _shards(jobs: list[tuple[Path, Path, int]], most: int) -> list[list[tuple[Path, Path, int]]]:
    """Groups images into shards of at most `most` windows, or one image."""
    shards, count = [[]], 0
    for job in jobs:
        if shards[-1] and count + job[2] > most:
            shards.append([])
            count = 0
        shards[-1].append(job)
        count += job[2]
    return shards


def _print_table(table: dict[Path, Counter[str]], size: int) -> None:
    columns = ("images", "sub-images", "too small", "unreadable")
    total: Counter[str] = Counter()
    for count in table.values():
        total.update(count)
    rows = [(str(folder), count) for folder, count in table.items()] + [("total", total)]
    width = max(len(name) for name, _ in rows)
    print(f"{'folder':{width}}" + "".join(f"{column:>12}" for column in columns))
    for name, count in rows:
        print(f"{name:{width}}" + "".join(f"{count[column]:12d}" for column in columns))
    print(f"{size / 1e6:.1f} MB of pixels")


if __name__ == "__main__":
    run_command(main)
