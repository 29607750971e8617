"""Measures implementations in turn: time, compilation and memory, and the machine's limits."""

import contextlib
import ctypes
import functools
import gc
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Run = Callable[[], Any]


class Side(NamedTuple):
    """One implementation of the work.

    Attributes:
        name: Its key in the results.
        precision: Of its computation, for the reader.
        build: Makes the run, a function that does the work once and returns when it is done.
        peak: Memory that one run takes, in bytes; see `host_peak` and `jax_peak`.
    """

    name: str
    precision: str
    build: Callable[[], Run]
    peak: Callable[[Run], int]


def measure(sides: Sequence[Side], repeats: int) -> dict[str, dict[str, Any]]:
    """Measures all sides in one process; their timed runs take turns, A B A B …

    Each has its first run, which compiles, and a second, for the memory, before any is timed.

    Returns:
        By name {"precision", "ms" (median), "fastest_ms", "compile_s" (the first run less a median
        one), "peak_mb", "result" (what the first run returned)}, or {"precision", "ms": None,
        "reason"} of a side that failed.
    """
    results: dict[str, dict[str, Any]] = {}
    runs: dict[str, Run] = {}
    for side in sides:
        print(f"  {side.name}: first runs", file=sys.stderr, flush=True)
        found: dict[str, Any] = {"precision": side.precision, "ms": None}
        results[side.name] = found
        try:
            run = side.build()
            began = time.perf_counter()
            found["result"] = run()
            found["compile_s"] = time.perf_counter() - began
            found["peak_mb"] = side.peak(run) / 1e6
            runs[side.name] = run
        # No compiler, no memory, another version: whatever the cause, the other sides go on.
        except Exception as error:
            found["reason"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats):
        print(f"  round {number + 1} of {repeats}", file=sys.stderr, flush=True)
        for name, run in runs.items():
            time.sleep(0.05)  # idle threads of the side before spin for a while
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    for name, seconds in times.items():
        median = statistics.median(seconds)
        results[name]["ms"], results[name]["fastest_ms"] = 1e3 * median, 1e3 * min(seconds)
        results[name]["compile_s"] = max(0.0, results[name]["compile_s"] - median)
    return results


def host_peak(run: Run) -> int:
    """Returns the largest growth of the process's resident memory during one run.

    Memory used before it is not counted: weights, images, optimiser states. What the allocator
    kept of earlier runs is returned to the system first, so that it does not hide the growth.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    except OSError as error:
        raise OSError(f"memory is measured on Linux only ({error})") from None
    before = _status("VmRSS")
    run()
    return max(0, _status("VmHWM") - before)


def jax_peak(run: Run) -> int:
    """Returns the peak of the device's memory above what was in use before, or the host's.

    JAX cannot reset the peak of a GPU, so its side has to come first in a fresh process.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        return host_peak(run)
    before = device.memory_stats()["bytes_in_use"]
    run()
    return device.memory_stats()["peak_bytes_in_use"] - before


def _status(key: str) -> int:
    match = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return 1024 * int(match[1])


def matmul_tflops(dtype: str) -> float:
    """Returns the best rate of several large matrix products, in 10^12 operations a second."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # Random values, because a GPU is faster on constants, which take less power.
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e12


def cores() -> int:
    """Returns the number of cores that this process may use: every side gets as many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Describes the machine, for every line of results."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device": _processor() if device.platform == "cpu" else device.device_kind,
        "devices": jax.device_count(),
        "processor": _processor(),
        "threads": cores(),
        "versions": versions("jax", "jaxlib", "flax", "torch", "onnxruntime", "openvino"),
    }


def versions(*packages: str) -> dict[str, str]:
    """Returns the versions of Python and of those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `function(*arguments)` in a new process, whose memory holds nothing of another case.

    It raises what the function raises.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(functools.partial(function, *arguments)).result()
