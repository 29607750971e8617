"""Times upscaling next to other frameworks: python -m benchmarks.upscale > upscale.jsonl"""

import argparse
import functools
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import flops, results, timing
from benchmarks.image_work import Job, Work
from esrgan_jax.blend import weighted_models
from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, RunError, run_command
from esrgan_jax.interop.rrdb_names import to_torch
from esrgan_jax.interpolation import load_models
from esrgan_jax.models import create_generator
from esrgan_jax.models.generator import Generator, Variables
from esrgan_jax.upscaling.image_tiles import plan_image
from esrgan_jax.upscaling.upscaler import Upscaler

PEERS = ("torch", "onnxruntime", "openvino")
LITE = "lite"
SCALE = 4
FIELDS = ("num_features", "num_growth", "num_blocks", "in_channels", "out_channels", "scale")
FIELDS += ("unshuffle", "plus", "upsampler")  # of the generator, in both frameworks
# (blocks, size of the LR image, number of files)
CPU_WORKS = (("23", "128", 0), ("6", "256", 0), (LITE, "512", 0), (LITE, "128", 20))
ACCELERATOR_WORKS = tuple(
    (blocks, size, 0) for blocks in ("23", "6") for size in ("128", "512", "1920x1080")
)


def measure_case(
    blocks: str,
    size: str,
    files: int,
    dtype: str,
    peer: Sequence[str],
    repeats: int,
    num_features: int = 64,
    num_growth: int = 32,
    tile: int | None = None,
) -> dict[str, Any]:
    """Measures one network on one image, or on a folder of image files.

    Args:
        blocks: Of a random x4 generator, or "lite", the package's network.
        size: Of an LR image, "64" or "1920x1080".
        files: How many files; 0 for one image in memory.
        dtype: Our computation.
        peer: Of PEERS.
        repeats: Timed runs.
        num_features: The random generator's channels.
        num_growth: Its growth channels.
        tile: Side of our tiles; None lets `Upscaler` choose it. The peers have no tiles.
    """
    width, height = image_size(size)
    with tempfile.TemporaryDirectory() as folder:
        work = Work.create(height, width, files, Path(folder))
        module, variables = _network(blocks, num_features, num_growth, work.image)
        upscaler = Upscaler(module, variables, tile=tile, dtype=dtype)
        build = functools.partial(_our_run, upscaler, work)
        sides = [timing.Side(results.OURS, dtype, build, timing.jax_peak)]
        fields = {name: getattr(module, name) for name in FIELDS}
        if peer:
            from benchmarks.upscale_peers import peer_sides

            sides += peer_sides(peer, fields, to_torch(fields, variables["params"]), work)
        measured = timing.measure(sides, repeats)
        _compare(measured)
    rows, columns = plan_image(
        upscaler.runner, height, width, 3, "uint8", upscaler.tile, upscaler.overlap
    )
    count = files or 1
    return results.result_line(
        "upscale",
        {
            "blocks": blocks,
            "width": width,
            "height": height,
            "scale": SCALE,
            "files": files,
            "our_tiles": len(rows.spans) * len(columns.spans),
            "our_tile": f"{columns.length}x{rows.length}",
            "num_features": fields["num_features"],
            "num_growth": fields["num_growth"],
            "repeats": repeats,
        },
        measured,
        flop=2 * count * flops.forward_macs(module, (1, height, width, 3)),
        amount=count * height * width * SCALE**2 / 1e6,
        unit="output_mpx_per_s",
    )


def _network(
    blocks: str, num_features: int, num_growth: int, image: np.ndarray
) -> tuple[Generator, Variables]:
    """Returns the package's network, or a random one whose results use the whole range."""
    # The first that uses JAX has to be an `Upscaler`, which may choose the devices, as for a user.
    Upscaler.load()
    if blocks == LITE:
        return load_models(weighted_models())[:2]
    module = create_generator(
        scale=SCALE,
        num_features=num_features,
        num_growth=num_growth,
        num_blocks=int(blocks),
        initializer="basicsr",  # the paper's makes values of 1e-7, which are 0 in float16
    )
    crop = image[None, :64, :64].astype(np.float32) / 255
    variables = jax.jit(module.init)(jax.random.key(0), crop)
    sr, variables = jax.device_get((jax.jit(module.apply)(variables, crop), variables))
    factor, last = 0.15 / sr.std((0, 1, 2)), variables["params"]["conv_last"]
    last["kernel"] = last["kernel"] * factor
    last["bias"] = 0.5 + (last["bias"] - sr.mean((0, 1, 2))) * factor
    return module, variables


def _our_run(upscaler: Upscaler, work: Work) -> timing.Run:
    if work.folder is None:
        # On an accelerator the image is there before and after, as for the others.
        on_cpu = jax.default_backend() == "cpu"
        image = work.image if on_cpu else jax.device_put(work.image)
        return lambda: jax.block_until_ready(upscaler(image))
    # Here, since machines with accelerators may lack libvips, which files alone need.
    from esrgan_jax.batch.jobs import ResultOptions
    from esrgan_jax.batch.report import Report
    from esrgan_jax.batch.upscale_images import upscale_files

    jobs = work.jobs(results.OURS)

    def run() -> list[Job]:
        report = Report("quiet", len(jobs), sys.stderr)
        upscale_files(upscaler, jobs, ResultOptions(), report)
        if report.failures:
            raise RunError(f"{report.failures[0]}")
        return jobs

    return run


def _compare(measured: dict[str, dict[str, Any]]) -> None:
    """Records the largest difference of each peer's images from ours, in 8-bit levels."""
    ours = measured[results.OURS].get("result")
    for name, side in measured.items():
        if name != results.OURS and ours is not None and "result" in side:
            pairs = zip(_images(ours), _images(side["result"]), strict=True)
            side["difference"] = max(int(abs(a - b).max()) for a, b in pairs)


def _images(result: Any) -> Iterator[np.ndarray]:
    """Yields the images of a run, int16."""
    if isinstance(result, list):
        from esrgan_jax.images.image_file import read_image

        yield from (read_image(target).astype(np.int16) for _, target in result)
    else:
        yield np.asarray(result.cpu() if hasattr(result, "cpu") else result).astype(np.int16)


def image_size(text: str) -> tuple[int, int]:
    """Parses "64" or "1920x1080" as (width, height)."""
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise InputError(f"--size={text}: give sizes such as 64 or 1920x1080")
    return int(sides[0]), int(sides[-1])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.upscale",
        description="Time x4 upscaling by us and by others and print a line of JSON for each case. "
        "Without --blocks, --size and --files: several cases that suit the device.",
    )
    names = results.comma_list(str)
    parser.add_argument(
        "--blocks", type=names, help="RRDBs of a random generator, or lite, the package's network"
    )
    parser.add_argument("--size", type=names, help="LR images, such as 64,1920x1080")
    parser.add_argument(
        "--files", type=int, default=0, help="PNG files in a folder (default 0: an image in memory)"
    )
    parser.add_argument("--tile", type=int, help="side of our tiles (default: as for the command)")
    parser.add_argument("--num_features", type=int, default=64, help="channels (default 64)")
    parser.add_argument("--num_growth", type=int, default=32, help="growth channels (default 32)")
    results.add_common_arguments(parser, PEERS)
    args = parse(parser, argv)
    results.check_common_arguments(args, PEERS)
    for text in args.size or ():
        image_size(text)
    for text in args.blocks or ():
        if text != LITE and not text.isdecimal():
            raise InputError(f"--blocks={text}: give a number or {LITE}")
    if args.files < 0:
        raise InputError(f"--files={args.files}: take 0 or more")
    on_cpu = jax.default_backend() == "cpu"
    works = CPU_WORKS if on_cpu else ACCELERATOR_WORKS
    if args.blocks or args.size or args.files:
        works = itertools.product(args.blocks or ["23"], args.size or ["128"], [args.files])
    common = {
        "peer": args.peer,
        "repeats": args.repeats or (7 if on_cpu else 20),
        "num_features": args.num_features,
        "num_growth": args.num_growth,
        "tile": args.tile,
    }
    cases = itertools.product(works, args.dtype)
    results.run_cases(
        measure_case,
        [
            {"blocks": blocks, "size": size, "files": files, "dtype": dtype, **common}
            for (blocks, size, files), dtype in cases
        ],
    )


if __name__ == "__main__":
    run_command(main)
