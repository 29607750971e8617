"""Free memory, the memory that a tile takes, and the tile size that follows."""

import contextlib
import os
from pathlib import Path
from typing import Any

import jax

from esrgan_jax.errors import InputError
from esrgan_jax.models.generator import Generator
from esrgan_jax.upscaling.tiles import OVERLAP

LARGEST_DEFAULT_TILE = 1024  # larger tiles save little overlap
# For a TPU, XLA cuts smaller batches into strips of rows, and a pixel takes 1.3 to 1.7 times as
# long (docs/performance.md). Smaller tiles make such batches from smaller images.
LEAST_TPU_BATCH = 8
LARGEST_TPU_TILE = 512
# Times that of a GPU, as compiled. A TPU pads channels to 128, and its strips are copies.
MEMORY = {"cpu": 0.8, "tpu": 1.5}
AHEAD = 2  # batches on the device: one is computed while the result of another is fetched
MOST_ON_CPU = 5 * 2**28  # a laptop shares its memory with other programs
CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)  # limit, usage, and the files in it that give way to programs


def free_host_bytes() -> int:
    """Returns the host memory that is free without swapping, within the container's limit."""
    free = 1024 * _values(Path("/proc/meminfo")).get("MemAvailable:", 0)
    free = free or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for limit, usage, cache in CGROUPS:
        folder = Path(limit).parent
        try:
            used = int((folder / usage).read_text()) - _values(folder / "memory.stat")[cache]
            free = min(free, int(Path(limit).read_text()) - used)
        except (OSError, ValueError, KeyError):  # no such control group, or its limit is "max"
            continue
    return max(free, 0)


def _values(path: Path) -> dict[str, int]:
    """Returns the numbers of a file of lines NAME VALUE; {} if there is none."""
    with contextlib.suppress(OSError):
        rows = (line.split() for line in path.read_text().splitlines())
        return {row[0]: int(row[1]) for row in rows if len(row) > 1}
    return {}


def budget(device: Any) -> int:
    """Returns the bytes that tiles may take on a device: its free memory, less a reserve."""
    if device.platform == "cpu":
        # Several simulated devices share one memory.
        return min(free_host_bytes() // 4, MOST_ON_CPU) // jax.local_device_count()
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit", 8 * 2**30)
    return int(0.8 * (limit - stats.get("bytes_in_use", 0)))


def bytes_per_pixel(module: Generator, device: Any) -> int:
    """Returns about the bytes of intermediate results of `upscale_step` per LR pixel.

    The most is either that of the features, or later two float32 results and the strips of rows
    that `tail` computes, which take about as much again.
    """
    results = 2 * 4 * module.out_channels * module.scale**2
    most = max(module.feature_bytes, 2 * results)
    return int(MEMORY.get(device.platform, 1) * most)


def batch_pixels(module: Generator, device: Any) -> int:
    """Returns how many LR pixels a batch may have for the memory of `device`."""
    return budget(device) // ((AHEAD + 1) * bytes_per_pixel(module, device))


def tile_side(module: Generator, device: Any, planes: int = 1) -> int:
    """Returns the side of a tile for the memory of `device`: a multiple of 32, from 64 to 1024.

    On a TPU it is at most 512, and batches of `LEAST_TPU_BATCH` fit into the memory.

    Args:
        module: The generator.
        device: Where it runs.
        planes: Inputs of the network per tile: 8 for the ensemble.
    """
    if device.platform == "tpu":
        largest = LARGEST_TPU_TILE
        pixels = batch_pixels(module, device) / max(planes, LEAST_TPU_BATCH)
    else:
        largest = LARGEST_DEFAULT_TILE
        pixels = budget(device) / (bytes_per_pixel(module, device) * planes)
    return int(min(max(pixels**0.5 // 32 * 32, 64), largest))


def usual_overlap(module: Generator, further: int = 0) -> int:
    """Returns how many LR pixels neighbouring tiles share if the memory allows large ones."""
    field = OVERLAP if module.receptive_field is None else 2 * module.receptive_field
    return min(field, OVERLAP) + 2 * further


def tile_and_overlap(
    module: Generator,
    device: Any,
    *,
    tile: int | None,
    overlap: int | None,
    exact: bool,
    further: int = 0,
    planes: int = 1,
) -> tuple[int, int]:
    """Returns the side of a tile and the overlap, multiples of the network's `size_multiple`.

    Args:
        module: The generator.
        device: Where it runs.
        tile: As for `Upscaler`.
        overlap: As for `Upscaler`.
        exact: As for `Upscaler`.
        further: LR pixels on each side that steps besides the network read, such as colour
            correction.
        planes: Inputs of the network per tile.

    Raises:
        InputError: `tile`, `overlap` and `exact` do not fit together, or do not fit the network.
    """
    multiple, field = module.size_multiple, module.receptive_field
    if exact and field is None:
        raise InputError("exact needs a network with a receptive_field: give overlap instead")
    least = 2 * (field + further) if exact and field else usual_overlap(module, further)
    fixed = exact or overlap is not None  # otherwise the overlap may shrink
    shared = least if overlap is None else overlap
    rounded = -(-shared // multiple) * multiple
    if tile is None:
        side = tile_side(module, device, planes)
        tile = max(side, -(-2 * rounded // 32) * 32) if fixed else side
    lowest = multiple + (shared if fixed else 1)
    if tile < lowest or tile % multiple:
        must = f"{lowest} px or more" + (f" (the overlap is {shared})" if fixed else "")
        if multiple > 1:
            must += f" and a multiple of {multiple}, the size_multiple of this network"
        raise InputError(f"a tile of {tile} px must be {must}")
    return tile, rounded if fixed else min(rounded, tile // 2 // multiple * multiple)
