"""Accelerators that are not there: the compiler takes their description for the devices."""

import math
import os
import re
from importlib import metadata
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from esrgan_jax.errors import InputError

# Without these, libtpu looks for the TPU of this machine, or for another process that has it.
LIBTPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# A GpuTargetConfigProto.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
runtime_version { major: 12 minor: 8 patch: 0 }
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Chip(NamedTuple):
    """A kind of accelerator.

    Attributes:
        memory: Bytes that programs may use. Of TPUs it is the limit of the compiler.
        clock_ghz: Of the cycles that the compiler estimates; None if it estimates none.
        tflops: The most bfloat16 operations a second, 10^12, by the data sheet.
        compilers: Packages, one of which compiles for it.
    """

    memory: int
    clock_ghz: float | None
    tflops: int
    compilers: tuple[str, ...]


CHIPS = {
    "v5e": Chip(int(15.75 * 2**30), 1.5, 197, ("libtpu",)),
    "v5p": Chip(int(95.74 * 2**30), 1.75, 459, ("libtpu",)),
    "v6e": Chip(int(31.25 * 2**30), 1.75, 918, ("libtpu",)),
    "h100": Chip(84929347584, None, 989, ("jax-cuda12-plugin", "jax-cuda13-plugin")),
}
# Without autotuning, which needs the GPU, XLA finds no tiles for a small product of `degrade`.
GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}


def check(target: str) -> None:
    """Raises InputError if a target is none, or if the package that compiles for it is missing."""
    kind, _, layout = target.partition(":")
    sizes = r"[1-9]\d*(x[1-9]\d*)*"
    if kind not in CHIPS or not re.fullmatch(r"[1-9]\d*" if kind == "h100" else sizes, layout):
        raise InputError(f"--target={target}: give such as v5e:2x2, v5p:2x2x1, v6e:1x1 or h100:4")
    if not any(map(_installed, CHIPS[kind].compilers)):
        jax_version = metadata.version("jax")
        packages = f"'jax[tpu]=={jax_version}'"
        if kind == "h100":
            names = ("jax-cuda12-plugin", "jax-cuda12-pjrt")
            packages = " ".join(["--no-deps", *(f"{name}=={jax_version}" for name in names)])
        raise InputError(f"--target={target} needs its compiler: pip install {packages}")


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def devices(target: str) -> list[Any]:
    """Returns the devices of a target, in a process that has not used JAX yet.

    Raises:
        InputError: The compiler does not know the layout of the chips.
    """
    kind, _, layout = target.partition(":")
    os.environ.update(LIBTPU)
    jax.config.update("jax_platforms", "cpu")
    if kind == "h100":
        jax.devices()  # finds the plugins
        given: dict[str, Any] = {"target_config": H100, "topology": f"1x1x{layout}"}
        return topologies.get_topology_desc(kind, "cuda", **given).devices
    one = math.prod(map(int, layout.split("x"))) == 1
    # By default a host has 2x2 chips.
    given = {"chips_per_host_bounds": (1, 1, 1)} if one else {}
    try:
        return topologies.get_topology_desc(target, "tpu", **given).devices
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"--target={target}: {error}") from None
