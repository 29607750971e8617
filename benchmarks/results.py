"""Runs the cases of the commands one after the other and prints each as a line of JSON."""

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks import timing
from esrgan_jax.errors import InputError
from esrgan_jax.models import COMPUTATION_DTYPES

PEERS = {
    "torch": ("torch",),
    "onnxruntime": ("torch", "onnx", "onnxruntime"),
    "openvino": ("torch", "onnx", "openvino"),
}
OURS = "ours"


def result_line(
    benchmark: str,
    case: dict[str, Any],
    sides: dict[str, dict[str, Any]],
    *,
    flop: int,
    amount: float,
    unit: str,
) -> dict[str, Any]:
    """Returns the line of JSON for a case.

    Args:
        benchmark: "upscale" or "train_step".
        case: What was done.
        sides: From `timing.measure`; every "result" is left out.
        flop: Counted operations of one run.
        amount: Of output of one run.
        unit: Of the amount in a second, as the key of each side's rate.
    """
    peaks = {
        dtype: timing.matmul_tflops(dtype)
        for dtype in {side["precision"].split()[0] for side in sides.values()}
    }
    for side in sides.values():
        side.pop("result", None)
        if side["ms"] is not None:
            seconds = side["ms"] / 1e3
            side[unit] = amount / seconds
            side["tflops"] = flop / seconds / 1e12
            side["of_matmul_peak"] = side["tflops"] / peaks[side["precision"].split()[0]]
    others = [side["ms"] for name, side in sides.items() if name != OURS and side["ms"] is not None]
    for side in sides.values():
        if others and side["ms"] is not None:
            side["of_fastest_peer"] = min(others) / side["ms"]
    return {
        "benchmark": benchmark,
        **timing.machine(),
        "case": case,
        "tflop": flop / 1e12,
        "matmul_tflops": peaks,
        "sides": sides,
    }


def run_cases(measure_case: Callable[..., dict[str, Any]], cases: Iterable[dict[str, Any]]) -> None:
    """Prints `measure_case(**case)` for every case as it is done, each in a new process."""
    for case in cases:
        print(f"{case}", file=sys.stderr, flush=True)
        line = timing.in_fresh_process(measured, measure_case, case)
        print(json.dumps(rounded(line)), flush=True)


def measured(measure_case: Callable[..., dict[str, Any]], case: dict[str, Any]) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        # Exporters print to stdout, which is for the results.
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        # An empty cache: torch.compile would not compile what it did in an earlier run.
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        return measure_case(**case)


def rounded(value: Any) -> Any:
    """Rounds to four digits; no timing has more."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def add_common_arguments(parser: argparse.ArgumentParser, peers: Sequence[str]) -> None:
    parser.add_argument(
        "--dtype",
        type=comma_list(str),
        help="our computation: float32, bfloat16 or both (default: both on accelerators)",
    )
    parser.add_argument(
        "--peer",
        type=comma_list(str),
        default=["torch"],
        help=f"what to compare with: {', '.join(peers)} or none (default: torch)",
    )
    parser.add_argument(
        "--repeats", type=int, help="timed runs of each side; the median is reported"
    )


def check_common_arguments(args: argparse.Namespace, peers: Sequence[str]) -> None:
    """Sets defaults; raises InputError for what cannot be measured here."""
    import jax

    on_cpu = jax.default_backend() == "cpu"
    args.dtype = args.dtype or (["float32"] if on_cpu else ["float32", "bfloat16"])
    for dtype in args.dtype:
        if dtype not in COMPUTATION_DTYPES:
            raise InputError(f"--dtype={dtype}: choose {', '.join(COMPUTATION_DTYPES)}")
    args.peer = [] if args.peer == ["none"] else args.peer
    for peer in args.peer:
        if peer not in peers:
            raise InputError(f"--peer={peer}: choose {', '.join(peers)} or none")
        if absent := missing(peer):
            raise InputError(
                f"--peer={peer} needs {', '.join(absent)}: pip install '.[bench]', "
                "or measure alone by --peer=none"
            )
        if peer != "torch" and not on_cpu:
            raise InputError(f"--peer={peer} is measured on the CPU: set JAX_PLATFORMS=cpu")
    if args.repeats is not None and args.repeats < 1:
        raise InputError(f"--repeats={args.repeats}: take 1 or more")


def missing(peer: str) -> list[str]:
    """Returns the packages that a peer needs and that are not installed."""
    return [name for name in PEERS[peer] if importlib.util.find_spec(name) is None]


def comma_list(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Returns an argparse type: "a,b" becomes [kind("a"), kind("b")]."""

    def split(text: str) -> list[Any]:
        return [kind(part) for part in text.split(",")]

    return split
