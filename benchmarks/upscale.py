"""Times upscaling next to PyTorch and ONNX Runtime: python -m benchmarks.upscale > upscale.jsonl"""

import argparse
import io
import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops, results, timing
from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.interop.rrdb_names import to_torch
from esrgan_jax.models import COMPUTATION_DTYPES, create_generator
from esrgan_jax.upscaling.tile_step import upscale_step
from esrgan_jax.upscaling.upscaler import Upscaler

PEERS = ("torch", "onnxruntime")
SCALE = 4
# Number of blocks: sides of images that take seconds to minutes.
CPU_CASES = {23: ("64", "128"), 6: ("64", "128", "256")}
ACCELERATOR_CASES = {23: ("128", "512", "1920x1080"), 6: ("128", "512", "1920x1080")}


def measure_case(
    blocks: int,
    size: str,
    dtype: str,
    peer: Sequence[str],
    repeats: int,
    num_features: int = 64,
    num_growth: int = 32,
) -> dict[str, Any]:
    """Measures one network on one image.

    Args:
        blocks: Of the x4 generator.
        size: Of the LR image, "64" or "1920x1080".
        dtype: Our computation.
        peer: Of PEERS.
        repeats: Timed runs.
        num_features: The generator's channels.
        num_growth: Its growth channels.
    """
    width, height = image_size(size)
    fields: dict[str, Any] = {"num_features": num_features, "num_growth": num_growth}
    fields["num_blocks"] = blocks
    # The paper's initialisation makes values of 1e-7, which float16 cannot represent.
    module = create_generator(dtype=dtype, scale=SCALE, initializer="basicsr", **fields)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    lr = image[None].astype(np.float32) / 255
    variables = jax.jit(module.init)(jax.random.key(0), lr[:, :8, :8])
    # In the middle of the range, where clamping, which only ours does, changes nothing.
    variables["params"]["conv_last"]["bias"] += 0.5

    sides = _our_sides(module, variables, image, lr)
    arrays = to_torch(
        {**fields, "in_channels": 3, "out_channels": 3, "scale": SCALE, "unshuffle": 1}
        | {"plus": False, "upsampler": "upconv"},
        jax.device_get(variables["params"]),
    )
    if "torch" in peer:
        sides += [_torch_side(fields, arrays, lr, tuned) for tuned in (False, True)]
    if "onnxruntime" in peer:
        sides.append(_onnxruntime_side(fields, arrays, lr))
    measured = timing.measure(sides, repeats)
    _compare(measured)
    case = {"blocks": blocks, "width": width, "height": height, "scale": SCALE}
    return results.result_line(
        "upscale",
        case | {"num_features": num_features, "num_growth": num_growth, "repeats": repeats},
        measured,
        flop=2 * flops.forward_macs(module, lr.shape),
        amount=height * width * SCALE**2 / 1e6,
        unit="output_mpx_per_s",
    )


def _our_sides(module: Any, variables: Any, image: Any, lr: Any) -> list[timing.Side]:
    """Returns two sides: the network on the device, and from image to image as a user calls it."""

    def build_apply() -> timing.Run:
        on_device = jax.device_put(lr)
        sizes = jax.device_put(np.array([lr.shape[1:3]], np.int32))
        return lambda: upscale_step(module, variables, on_device, sizes)[0].block_until_ready()

    def build_upscaler() -> timing.Run:
        # As files are read, and in one tile as for the others.
        options = {"tile": max(image.shape), "dtype": jnp.dtype(module.dtype).name}
        upscaler = Upscaler(module, jax.device_get(variables), **options)
        return lambda: upscaler(image)

    dtype = jnp.dtype(module.dtype).name
    return [
        timing.Side(results.OURS, dtype, build_apply, timing.jax_peak),
        timing.Side("our_upscaler", dtype, build_upscaler, timing.host_peak),
    ]


def _torch_side(fields: Any, arrays: Any, lr: Any, tuned: bool) -> timing.Side:
    import torch

    from benchmarks import torch_device, torch_networks

    def build() -> timing.Run:
        device = torch_device.find_device()
        model: Any = torch_networks.RRDBNet(**fields)
        model = torch_networks.load_arrays(model, arrays).eval().to(device)
        x = torch_networks.to_nchw(lr).to(device)
        if tuned:
            model = torch_device.Tuned(model, device)
        elif device.type == "cuda":
            model, x = model.half(), x.half()

        def run() -> Any:
            with torch.inference_mode():
                sr = model(x)
            torch_device.synchronize(device)
            return sr

        return run

    name = torch_device.TUNED if tuned else torch_device.SHIPPED
    precision = torch_device.precision(tuned, training=False)
    return timing.Side(name, precision, build, torch_device.peak)


def _onnxruntime_side(fields: Any, arrays: Any, lr: Any) -> timing.Side:
    import onnxruntime
    import torch

    from benchmarks import torch_networks

    def build() -> timing.Run:
        model: Any = torch_networks.load_arrays(torch_networks.RRDBNet(**fields), arrays).eval()
        x = torch_networks.to_nchw(lr)
        file: Any = io.BytesIO()
        with warnings.catch_warnings(action="ignore"):  # the newer exporter needs onnxscript
            given: Any = {"input_names": ["lr"], "opset_version": 17, "dynamo": False}
            torch.onnx.export(model, (x,), file, **given)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = timing.cores()
        session = onnxruntime.InferenceSession(
            file.getvalue(), options, providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(None, {"lr": x.numpy()})[0]

    return timing.Side("onnxruntime", "float32", build, timing.host_peak)


def _compare(measured: dict[str, dict[str, Any]]) -> None:
    """Records each peer's largest difference from our image, relative to its largest value."""
    ours = measured[results.OURS].get("result")
    if ours is None:
        return
    for name, side in measured.items():
        sr = side.get("result")
        if sr is not None and name not in (results.OURS, "our_upscaler"):
            sr = sr if isinstance(sr, np.ndarray) else sr.float().cpu().numpy()
            difference = abs(sr.transpose(0, 2, 3, 1) - np.asarray(ours)).max()
            side["difference"] = float(difference / abs(np.asarray(ours)).max())


def image_size(text: str) -> tuple[int, int]:
    """Parses "64" or "1920x1080" as (width, height)."""
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise InputError(f"--size={text}: give sizes such as 64 or 1920x1080")
    return int(sides[0]), int(sides[-1])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.upscale",
        description="Time our x4 generator and others' and print a line of JSON for each case.",
    )
    parser.add_argument(
        "--blocks", type=results.comma_list(int), help="RRDBs of the generator (default: 23,6)"
    )
    parser.add_argument(
        "--size",
        type=results.comma_list(str),
        help="LR images, such as 64,1920x1080 (default: what suits the device)",
    )
    results.add_common_arguments(parser, PEERS)
    args = parse(parser, argv)
    results.check_common_arguments(args, PEERS)
    on_cpu = jax.default_backend() == "cpu"
    defaults = CPU_CASES if on_cpu else ACCELERATOR_CASES
    for text in args.size or ():
        image_size(text)
    for dtype in args.dtype:
        if dtype not in COMPUTATION_DTYPES:
            raise InputError(f"--dtype={dtype}: choose {', '.join(COMPUTATION_DTYPES)}")
    common = {
        "peer": args.peer,
        "repeats": args.repeats or (7 if on_cpu else 20),
        "num_features": args.num_features,
        "num_growth": args.num_growth,
    }
    results.run_cases(
        measure_case,
        [
            {"blocks": blocks, "size": size, "dtype": dtype, **common}
            for blocks, dtype in itertools.product(args.blocks or defaults, args.dtype)
            for size in args.size or defaults.get(blocks, defaults[6])
        ],
    )


if __name__ == "__main__":
    run_command(main)
