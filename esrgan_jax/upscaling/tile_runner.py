"""Runs tiles on the devices in batches, with smaller batches and tiles if memory runs out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from esrgan_jax.errors import RunError
from esrgan_jax.models.generator import Generator, Variables
from esrgan_jax.sharding import batched, create_mesh, replicated
from esrgan_jax.upscaling.memory import AHEAD, LEAST_TPU_BATCH, batch_pixels
from esrgan_jax.upscaling.tile import AnyArray, Tile, cut_row, paste, report, rows_of, stacked
from esrgan_jax.upscaling.tile_step import upscale_in_parts, upscale_step
from esrgan_jax.upscaling.tiles import Axis, plan_axis

BATCH_PIXELS = 1024 * 1024  # LR pixels that keep an accelerator busy
LARGEST_BATCH = 64
SMALLEST_TILE = 16
LEAST_COLUMNS = 48  # on each device, if a tile is split over CPU devices

_Key = tuple[tuple[int, ...], np.dtype, str]  # of a batch: tiles' shape, dtype, result dtype
_Results = tuple[AnyArray, AnyArray]  # results, and whether each is finite
_Result = TypeVar("_Result")


class TileRunner:
    """Upscales tiles by one network.

    Args:
        module: The generator, in the computation dtype.
        variables: Its variables.
        devices: The devices that a batch is split over.
        spatial: Splits the columns of each tile over the devices instead; the compiler exchanges
            the columns that convolutions need from neighbouring devices. On CPUs a batch of a
            single wide tile is always split so.
        overlap: Pixels shared by the smaller tiles that a tile is split into if memory runs out.
        keep_overlap: They share so many in any case; otherwise at most half of a tile.
        batch: Most tiles of a batch on each device; None computes it from the memory.
        step: Further arguments of `upscale_step`.
    """

    def __init__(
        self,
        module: Generator,
        variables: Variables,
        *,
        devices: list[Any],
        spatial: bool,
        overlap: int,
        keep_overlap: bool = False,
        batch: int | None = None,
        **step: Any,
    ):
        self.module, self.border = module, step.get("border", "zero")
        self.overlap, self.keep_overlap = overlap, keep_overlap
        self.multiple = module.size_multiple
        mesh = create_mesh(devices)
        self.devices, self.spatial = devices, spatial
        splits = spatial or (self.on_cpu and module.receptive_field is not None)
        self.column_multiple = self.multiple * (len(devices) if splits else 1)
        self.by_tiles = (batched(mesh), batched(mesh))
        self.by_columns = (NamedSharding(mesh, PartitionSpec(None, None, "data")), replicated(mesh))
        self.by_rows = NamedSharding(mesh, PartitionSpec(None, "data"))
        # Put on the devices once, not with every batch.
        self.variables = jax.device_put(variables, replicated(mesh))
        self.on_first = jax.tree.map(lambda x: x.addressable_data(0), self.variables)
        # A tile can take minutes on a CPU, so progress is reported within it.
        self.step = partial(upscale_in_parts if self.on_cpu else upscale_step, **step)
        self.versions = 8 if step.get("ensemble") else 1
        # On a CPU several batches would be computed at the same time, each with its own memory.
        self.ahead = 0 if self.on_cpu else AHEAD
        self.largest_batch = LARGEST_BATCH if batch is None else batch
        self.batch_sizes: dict[_Key, int] = {}
        self.padded: set[_Key] = set()  # with tiles that were not full
        self.largest_side: int | None = None  # where memory ran out

    @property
    def on_cpu(self) -> bool:
        return self.devices[0].platform == "cpu"

    def run(self, tiles: Iterable[Tile]) -> Iterator[Tile]:
        """Yields the tiles in order, each with its result or its error.

        Tiles of one shape are batched across images, so later tiles are read before earlier ones
        are yielded.
        """
        waiting: deque[Tile] = deque()
        groups: dict[_Key, list[Tile]] = {}
        started: deque[tuple[list[Tile], _Results | Exception]] = deque()

        def start(key: _Key) -> None:
            batch = groups.pop(key)
            started.append((batch, self._launch(batch)))

        for tile in tiles:
            waiting.append(tile)
            if tile.open:
                batch = groups.setdefault(_key(tile), [])
                batch.append(tile)
                if len(batch) >= self._batch_size(tile):
                    start(_key(tile))
            while waiting and not (waiting[0].open and len(started) <= self.ahead):
                if waiting[0].open:
                    self._finish(*started.popleft())
                else:
                    yield waiting.popleft()
            # A batch of a rare shape, which does not fill up, must not delay the tiles that follow.
            late = len(waiting) >= 2 * AHEAD * self._batch_size(waiting[0]) if waiting else False
            if late and _key(waiting[0]) in groups:
                start(_key(waiting[0]))
        for key in list(groups):
            start(key)
        while waiting:
            while waiting[0].open:
                self._finish(*started.popleft())
            yield waiting.popleft()

    def _batch_size(self, tile: Tile) -> int:
        if self.spatial:
            return 1
        key = _key(tile)
        if key not in self.batch_sizes:  # once, as what is free changes and each size is compiled
            height, width = tile.lr.shape[:2]
            device, pixels = self.devices[0], height * width * self.versions
            busy = BATCH_PIXELS
            if device.platform == "tpu":
                busy = max(busy, LEAST_TPU_BATCH * height * width)
            each = max(min(busy, batch_pixels(self.module, device)) // pixels, 1)
            # On CPUs larger batches are not faster.
            self.batch_sizes[key] = 1 if self.on_cpu else 2 ** (each.bit_length() - 1)
        return min(self.batch_sizes[key], self.largest_batch) * len(self.devices)

    def _launch(self, tiles: list[Tile], module: Generator | None = None) -> _Results | Exception:
        """Starts a batch; returns its arrays, or the exception if memory ran out."""
        count, split = len(tiles), 1 if self.spatial else len(self.devices)
        # Padded with empty tiles to one of few sizes, so that few programs are compiled.
        size = -(-(1 << (count - 1).bit_length()) // split) * split
        variables, places = self.variables, self.by_tiles
        if self.spatial or (count == 1 and self._is_wide(tiles[0])):
            size, places = count, self.by_columns
        elif count == 1:
            size, variables, places = 1, self.on_first, (self.devices[0], self.devices[0])
        arrays = stacked(tiles, size)
        options: Any = {"progress": partial(report, tiles)} if self.on_cpu else {}
        options |= {"border": self._border(tiles), "dtype": tiles[0].dtype}
        if self.on_cpu and places == self.by_columns and options["border"] in ("zero", "full"):
            options["by_rows"] = self.by_rows

        def start() -> _Results:
            put = [jax.device_put(x, at) for x, at in zip(arrays, places, strict=True)]
            network = module or self.module
            # By default TPUs multiply float32 as bfloat16, and GPUs from Ampere on as TF32.
            exact = network.dtype == np.float32
            with jax.default_matmul_precision("highest" if exact else None):
                return self.step(network, variables, *put, **options)

        return self._unless_out_of_memory(start)

    def _border(self, tiles: list[Tile]) -> str:
        """Returns the border: "full" instead of "zero" if a faster program can take the tiles."""
        if not all(tile.full for tile in tiles):
            self.padded.add(_key(tiles[0]))  # whose program takes full tiles as well
        masked = self.border != "zero" or _key(tiles[0]) in self.padded
        return self.border if masked else "full"

    def _is_wide(self, tile: Tile) -> bool:
        """Returns whether several CPU devices compute a tile faster than one of them."""
        width = tile.lr.shape[1]
        return (
            self.on_cpu
            and width % self.column_multiple == 0
            and width >= LEAST_COLUMNS * len(self.devices) > LEAST_COLUMNS
        )

    def _unless_out_of_memory(self, work: Callable[[], _Result]) -> _Result | Exception:
        """Returns the result of `work`, or the exception if memory ran out."""
        try:
            return work()
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                return error
            raise

    def _finish(self, tiles: list[Tile], arrays: _Results | Exception) -> None:
        """Waits for a batch and sets the results of its tiles."""
        if not isinstance(arrays, Exception):
            # Results of tiles that are JAX arrays stay on the device.
            stay = isinstance(tiles[0].lr, jax.Array)
            results, finite = arrays
            arrays = self._unless_out_of_memory(
                lambda: (results, jax.device_get(finite)) if stay else jax.device_get(arrays)
            )
        if isinstance(arrays, Exception):
            self._shrink(tiles, arrays)
            return
        for tile, result, finite in zip(tiles, *arrays, strict=False):
            tile.result = result
            if not finite:
                self._repeat(tile)

    def _repeat(self, tile: Tile) -> None:
        """Computes a tile whose result is not finite again, in float32."""
        if self.module.dtype != np.float32:
            module = self.module.clone(dtype=np.dtype("float32"))
            arrays = self._unless_out_of_memory(
                lambda: jax.device_get(self._launch([tile], module))
            )
            if isinstance(arrays, Exception):
                tile.error = _no_memory("a tile cannot be computed again in float32", arrays)
                return
            (tile.result,), (finite,) = arrays[0][:1], arrays[1][:1]
            if finite:
                return
        tile.error = RunError(
            "the network gives values that are not finite; "
            "its weights are damaged or its training diverged"
        )

    def _shrink(self, tiles: list[Tile], error: Exception) -> None:
        """Computes tiles for which memory ran out in smaller batches, then in smaller tiles."""
        split = 1 if self.spatial else len(self.devices)
        if len(tiles) > split:
            self.largest_batch = max(len(tiles) // split // 2, 1)
            half = self.largest_batch * split
            for start in range(0, len(tiles), half):
                part = tiles[start : start + half]
                self._finish(part, self._launch(part))
            return
        side = max(tiles[0].lr.shape[:2]) // 2 // self.column_multiple * self.column_multiple
        least = max(SMALLEST_TILE, self.overlap + self.multiple if self.keep_overlap else 0)
        if side >= least:
            self.largest_side = min(side, self.largest_side or side)
        for tile in tiles:
            if side < least:
                shared = f", which share {self.overlap}" if self.keep_overlap else ""
                what = f"memory does not suffice for tiles of {2 * side} px{shared}"
                tile.error = _no_memory(what, error)
            else:
                self._split(tile, side)

    def plan(
        self, height: int, width: int, side: int, overlap: int, tallest: int | None = None
    ) -> tuple[Axis, Axis]:
        """Plans the tiles of an image: rows and columns, see `tiles.plan_axis`.

        Args:
            height: Of the image.
            width: Of the image.
            side: Largest side of a tile.
            overlap: Pixels that neighbours share, at most half of a tile without `keep_overlap`.
            tallest: Most rows of a tile, if less than `side`.
        """
        # Accelerators take longer to compile and less time to compute.
        steps = 0 if self.module.receptive_field is None else 4 if self.on_cpu else 1
        options: Any = {"multiple": self.multiple, "steps": steps, "wrap": self.border == "wrap"}
        shares = len(self.devices) if self.spatial else 1
        if self.largest_side and self.largest_side < side * shares:
            side = max(self.largest_side // shares, SMALLEST_TILE) // self.multiple * self.multiple
        overlap = overlap if self.keep_overlap else min(overlap, side // 2)
        rows = plan_axis(height, min(side, tallest or side), overlap, **options)
        columns = plan_axis(width, side * shares, overlap, **options)
        length = -(-columns.length // self.column_multiple) * self.column_multiple
        if self.versions > 1:  # tiles are transposed, too
            length = max(rows.length, length)
            rows = rows._replace(length=length)
        return rows, columns._replace(length=length)

    def _split(self, tile: Tile, side: int) -> None:
        """Computes a tile as several smaller ones."""
        rows, columns = self.plan(*tile.size, side, self.overlap)
        image, parts = tile.lr[: tile.size[0], : tile.size[1]], []
        for row in rows.spans:
            parts += cut_row(rows_of(image, row), row, rows, columns, tile.dtype)
        for index, part in enumerate(parts):
            part.progress = lambda done, index=index: report([tile], (index + done) / len(parts))
        scale, result = self.module.scale, None
        for part in self.run(parts):
            if part.error is not None:
                tile.error = part.error
                return
            assert part.result is not None
            if result is None:
                height, width = (scale * side for side in tile.lr.shape[:2])
                result = np.zeros((height, width, part.result.shape[-1]), part.result.dtype)
            paste(part, result, scale)
        tile.result = result


def _no_memory(what: str, error: Exception) -> RunError:
    reason = str(error).partition("\n")[0]
    return RunError(f"{what}: {reason}")


def _key(tile: Tile) -> _Key:
    """Returns the key of the batch that a tile can be part of."""
    return tile.lr.shape, tile.lr.dtype, tile.dtype
