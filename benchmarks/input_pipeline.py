"""Measures how fast patches are read: python -m benchmarks.input_pipeline > input_pipeline.jsonl"""

import argparse
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from benchmarks import results, timing
from esrgan_jax.command_line import parse
from esrgan_jax.data import sources
from esrgan_jax.data.builder import cut, write_sub_images
from esrgan_jax.data.pipeline import keep_freed_memory, make_dataset
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.images.image_file import find_images, read_image

SOURCES = ("png", "jpeg", "memory", "arrayrecord")
WINDOW = 240  # side of the parts of photographs that make a large image


def measure_case(
    source: str,
    workers: int,
    folder: str,
    size: tuple[int, int],
    patch: int,
    batch: int,
    seconds: float,
) -> dict[str, Any]:
    """Measures one source with one number of workers.

    Args:
        source: Of SOURCES. Of "png" and "jpeg", large images, nothing is kept in memory, as of a
            set that is much larger; of "memory", the sub-images of "arrayrecord", everything is.
        workers: Processes.
        folder: Where `write_sources` wrote.
        size: (width, height) of its images, for the result.
        patch: Side of the HR patches.
        batch: Patches in a batch.
        seconds: Least time that is measured, after a warm-up as long.
    """
    memory = sources.MEMORY if source == "memory" else 0
    images: Any
    if source == "arrayrecord":
        images = sources.ArrayRecordSource(Path(folder, source))
    else:
        images = sources.ImageFolder(Path(folder, source), patch, memory)
    keep_freed_memory()  # as in training
    options = {"scale": 4, "hr_patch": patch, "batch_size": batch, "seed": 0}
    with contextlib.closing(iter(make_dataset(images, num_workers=workers, **options))) as data:
        began = time.perf_counter()
        next(data)
        first = time.perf_counter() - began
        # Every worker reads every image once, which fills memory and the page cache.
        _rate(data, batch, seconds, at_least=2 * max(workers, 1) * len(images))
        cpu = time.process_time()
        rate, crops = _rate(data, batch, seconds)
        cpu = time.process_time() - cpu
    case = {"source": source, "workers": workers, "patch": patch, "batch": batch}
    if source in ("png", "jpeg"):
        case["image"] = f"{size[0]}x{size[1]}"
    line = {"benchmark": "input_pipeline", **timing.machine(), "case": case}
    for package in ("grain", "array_record", "pyvips"):
        line["versions"][package] = metadata.version(package)
    line["load_average"] = os.getloadavg()[0]  # more than this case's processes: others run
    line |= {"first_batch_s": first, "crops_per_s": rate}
    # Processor time tells more than the rate where others run; the workers' is not counted.
    return line if workers else line | {"cpu_ms_per_crop": 1e3 * cpu / crops}


def _rate(data: Any, batch: int, seconds: float, at_least: int = 0) -> tuple[float, int]:
    """Returns crops per second, and their number."""
    began, crops, passed = time.perf_counter(), 0, 0.0
    while passed < seconds or (crops < at_least and passed < 10 * seconds):
        next(data)
        crops += batch
        passed = time.perf_counter() - began
    return crops / passed, crops


def write_sources(folder: Path, photographs: Path, size: tuple[int, int], count: int) -> None:
    """Writes large images as PNG and as JPEG, and the sub-images that `prepare` would cut.

    Each is a mosaic of random parts of the photographs, since few have photographs of the size.
    """
    found: list[np.ndarray] = []
    for path in find_images(photographs):
        with contextlib.suppress(InputError):
            image = read_image(path)
            found += [image] if min(image.shape[:2]) >= WINDOW else []
    if not found:
        raise InputError(f"{photographs}: no image of at least {WINDOW} pixels a side")
    random = np.random.default_rng(0)
    width, height = size

    def part() -> np.ndarray:
        image = found[random.integers(len(found))]
        top, left = (random.integers(side - WINDOW + 1) for side in image.shape[:2])
        return image[top : top + WINDOW, left : left + WINDOW]

    rows, columns = -(-height // WINDOW), -(-width // WINDOW)
    images = [
        np.block([[[part()] for _ in range(columns)] for _ in range(rows)])[:height, :width]
        for _ in range(count)
    ]
    for number, image in enumerate(images):
        for saver, options in (("png", {}), ("jpeg", {"Q": 90})):
            path = folder / saver / f"{number}.{saver}"
            path.parent.mkdir(exist_ok=True)
            getattr(pyvips.Image.new_from_array(image), f"{saver}save")(str(path), **options)
    named = [
        (f"{number}_{place}", np.ascontiguousarray(window))
        for number, image in enumerate(images)
        for place, window in enumerate(cut(image, min(480, *size), 240, 48))
    ]
    write_sub_images(folder / "arrayrecord", [lambda: iter(named)])
    (folder / "memory").mkdir()
    for name, window in named:
        picture = pyvips.Image.new_from_array(window)
        picture.pngsave(f"{folder}/memory/{name}.png", compression=0)


def main(argv: Sequence[str] | None = None) -> None:
    import skimage.data

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_pipeline",
        description="Measure how fast patches are read and print a line of JSON for each case.",
    )
    split = results.comma_list
    parser.add_argument(
        "--source", type=split(str), default=list(SOURCES), help=f"of {', '.join(SOURCES)}"
    )
    parser.add_argument("--workers", type=split(int), default=[0, 1, 2], help="0, 1 and 2")
    parser.add_argument(
        "--images",
        type=Path,
        default=Path(skimage.data.__file__).parent,
        help="folder of photographs to make large ones of (default: scikit-image's)",
    )
    parser.add_argument("--size", default="2040x1356", help="of the large ones, as in DIV2K")
    parser.add_argument("--count", type=int, default=8, help="large images")
    parser.add_argument("--patch", type=int, default=128, help="side of a patch")
    parser.add_argument("--batch", type=int, default=16, help="patches in a batch")
    parser.add_argument("--seconds", type=float, default=5, help="to measure each case")
    args = parse(parser, argv)
    if unknown := [source for source in args.source if source not in SOURCES]:
        raise InputError(f"--source={unknown[0]}: choose {', '.join(SOURCES)}")
    try:
        width, height = (int(side) for side in args.size.split("x"))
    except ValueError:
        raise InputError(f"--size={args.size}: give WIDTHxHEIGHT, such as 2040x1356") from None
    if min(width, height) < args.patch:
        raise InputError(f"--size={args.size}: must not be smaller than a patch of {args.patch}")
    with tempfile.TemporaryDirectory() as folder:
        write_sources(Path(folder), args.images, (width, height), args.count)
        fixed = {"folder": folder, "size": (width, height), "patch": args.patch}
        fixed |= {"batch": args.batch, "seconds": args.seconds}
        cases = itertools.product(args.source, args.workers)
        results.run_cases(
            measure_case, ({"source": name, "workers": count, **fixed} for name, count in cases)
        )


if __name__ == "__main__":
    run_command(main)
