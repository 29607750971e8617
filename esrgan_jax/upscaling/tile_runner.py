"""Runs tiles on the devices: in batches, and in smaller ones if memory runs out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from esrgan_jax.errors import RunError
from esrgan_jax.models.generator import Generator
from esrgan_jax.sharding import batched, create_mesh, replicated
from esrgan_jax.upscaling.memory import budget, bytes_per_pixel
from esrgan_jax.upscaling.tile import Tile, cut_row, paste, rows_of
from esrgan_jax.upscaling.tile_step import upscale_in_parts, upscale_step
from esrgan_jax.upscaling.tiles import Axis, plan_axis

AHEAD = 2  # batches on the device at a time: one computes while another's result is fetched
BATCH_PIXELS = 1024 * 1024  # LR pixels that keep an accelerator busy
LARGEST_BATCH = 64
SMALLEST_TILE = 16


class TileRunner:
    """Runs tiles of one network.

    Args:
        module: The generator, in the computation dtype.
        variables: Its variables.
        devices: Where to run; a batch is split over them.
        spatial: Splits the rows of each tile over the devices instead; the compiler exchanges what
            convolutions need of their neighbours.
        overlap: For the tiles that a tile is split into when memory runs out.
        batch: Most tiles of a batch on each device; None chooses it from the memory.
        step: Further arguments of `upscale_step`.
    """

    def __init__(
        self,
        module: Generator,
        variables: Any,
        *,
        devices: list[Any],
        spatial: bool,
        overlap: int,
        batch: int | None = None,
        **step: Any,
    ):
        self.module, self.overlap, self.border = module, overlap, step.get("border", "zero")
        self.multiple = module.size_multiple
        self.row_multiple = self.multiple * (len(devices) if spatial else 1)
        mesh = create_mesh(devices)
        self.devices, self.spatial = devices, spatial
        self.tile_sharding = self.size_sharding = batched(mesh)
        if spatial:
            self.tile_sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
            self.size_sharding = replicated(mesh)
        # On the devices once, instead of with every tile.
        self.variables = jax.device_put(variables, replicated(mesh))
        self.on_first = jax.tree.map(lambda x: x.addressable_data(0), self.variables)
        # A tile takes an accelerator a moment, but a CPU maybe minutes, with progress to tell.
        self.in_parts = devices[0].platform == "cpu" and not spatial
        self.step = partial(upscale_step, whole=spatial, **step)
        if self.in_parts:
            self.step = partial(upscale_in_parts, **step)
        self.versions = 8 if step.get("ensemble") else 1
        # On a CPU batches that are ahead would compute beside each other, each in its own memory.
        self.ahead = 0 if devices[0].platform == "cpu" else AHEAD
        self.largest_batch = LARGEST_BATCH if batch is None else batch
        self.batch_sizes: dict[Any, int] = {}
        self.largest_side: int | None = None  # where memory ran out

    def run(self, tiles: Iterable[Tile]) -> Iterator[Tile]:
        """Yields the tiles in order, each with its result or its error.

        Tiles of one shape are batched across images, so later tiles are read before earlier ones
        are yielded.
        """
        waiting: deque[Tile] = deque()
        groups: dict[Any, list[Tile]] = {}
        flying: deque[tuple[list[Tile], Any]] = deque()

        def start(key: Any) -> None:
            batch = groups.pop(key)
            flying.append((batch, self._launch(batch)))

        for tile in tiles:
            waiting.append(tile)
            if tile.open:
                batch = groups.setdefault(_key(tile), [])
                batch.append(tile)
                if len(batch) >= self._batch_size(tile):
                    start(_key(tile))
            while waiting and not (waiting[0].open and len(flying) <= self.ahead):
                if waiting[0].open:
                    self._land(*flying.popleft())
                else:
                    yield waiting.popleft()
            # A tile of a rare shape, whose batch does not fill, must not hold up what follows.
            late = len(waiting) >= 2 * AHEAD * self._batch_size(waiting[0]) if waiting else False
            if late and _key(waiting[0]) in groups:
                start(_key(waiting[0]))
        for key in list(groups):
            start(key)
        while waiting:
            while waiting[0].open:
                self._land(*flying.popleft())
            yield waiting.popleft()

    def _batch_size(self, tile: Tile) -> int:
        if self.spatial:
            return 1
        key = _key(tile)
        if key not in self.batch_sizes:  # once, as what is free changes and each size is compiled
            height, width = tile.lr.shape[:2]
            room = budget(self.devices[0]) // ((AHEAD + 1) * bytes_per_pixel(self.module))
            each = max(min(BATCH_PIXELS, room) // (height * width * self.versions), 1)
            on_cpu = self.devices[0].platform == "cpu"  # where nothing is gained by more
            self.batch_sizes[key] = 1 if on_cpu else 2 ** (each.bit_length() - 1)
        return min(self.batch_sizes[key], self.largest_batch) * len(self.devices)

    def _launch(self, tiles: list[Tile], module: Generator | None = None) -> Any:
        """Starts a batch: its unfinished arrays, or the exception that says that memory ran out."""
        count, many = len(tiles), 1 if self.spatial else len(self.devices)
        # Few sizes of batches are compiled; what is added to fill one is computed for nothing.
        size = -(-(1 << (count - 1).bit_length()) // many) * many
        variables, places = self.variables, (self.tile_sharding, self.size_sharding)
        if count == 1 and not self.spatial:
            size, variables, places = 1, self.on_first, (self.devices[0], self.devices[0])
        sizes = np.zeros((size, 2), np.int32)
        sizes[:count] = [tile.size for tile in tiles]
        lr = _batch([tile.lr for tile in tiles], size)

        def start() -> Any:
            put = [jax.device_put(x, at) for x, at in zip((lr, sizes), places, strict=True)]
            told: Any = {"progress": partial(_tell, tiles)} if self.in_parts else {}
            network = module or self.module
            # By themselves TPUs multiply float32 as bfloat16, and GPUs from Ampere on as TF32.
            whole = network.dtype == np.float32
            with jax.default_matmul_precision("highest" if whole else None):
                return self.step(network, variables, *put, dtype=tiles[0].dtype, **told)

        return self._unless_out_of_memory(start)

    def _unless_out_of_memory(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                return error
            raise

    def _land(self, tiles: list[Tile], arrays: Any) -> None:
        """Waits for a batch and gives its tiles their results."""
        if not isinstance(arrays, Exception):
            # Results of tiles from a device stay there.
            stays = isinstance(tiles[0].lr, jax.Array)
            results, finite = arrays
            arrays = self._unless_out_of_memory(
                lambda: (results, jax.device_get(finite)) if stays else jax.device_get(arrays)
            )
        if isinstance(arrays, Exception):
            self._shrink(tiles, arrays)
            return
        for tile, result, finite in zip(tiles, *arrays, strict=False):
            tile.result = result
            if not finite:
                self._repeat(tile)

    def _repeat(self, tile: Tile) -> None:
        """Does a tile that is not finite again, in float32."""
        if self.module.dtype != np.float32:
            module = self.module.clone(dtype=np.dtype("float32"))
            arrays = self._unless_out_of_memory(
                lambda: jax.device_get(self._launch([tile], module))
            )
            if isinstance(arrays, Exception):
                raise RunError(f"a tile cannot be done again in float32: {arrays}")
            (tile.result,), (finite,) = arrays[0][:1], arrays[1][:1]
            if finite:
                return
        tile.error = RunError(
            "the network gives values that are not finite; "
            "its weights are damaged or its training diverged"
        )

    def _shrink(self, tiles: list[Tile], error: Exception) -> None:
        """Does what memory did not suffice for in smaller batches, then in smaller tiles."""
        many = 1 if self.spatial else len(self.devices)
        if len(tiles) > many:
            self.largest_batch = max(len(tiles) // many // 2, 1)
            half = self.largest_batch * many
            for start in range(0, len(tiles), half):
                part = tiles[start : start + half]
                self._land(part, self._launch(part))
            return
        side = max(tiles[0].lr.shape[:2]) // 2 // self.row_multiple * self.row_multiple
        self.largest_side = min(side, self.largest_side or side)
        for tile in tiles:
            if side < SMALLEST_TILE:
                reason = str(error).partition("\n")[0]
                tile.error = RunError(
                    f"memory does not suffice for tiles of {2 * side} px: {reason}"
                )
            else:
                self._split(tile, side)

    def plan(
        self, height: int, width: int, side: int, overlap: int, tallest: int | None = None
    ) -> tuple[Axis, Axis]:
        """The tiles of an image: rows and columns, see `tiles.plan_axis`.

        Args:
            height: Of the image.
            width: Of the image.
            side: Of a tile, at most.
            overlap: What neighbours share.
            tallest: Rows of a tile, at most, where that is less.
        """
        # Accelerators compile for longer and compute faster.
        steps = 4 if self.devices[0].platform == "cpu" else 1
        steps = 0 if self.module.receptive_field is None else steps
        wrap = self.border == "wrap"
        options: dict[str, Any] = {"multiple": self.multiple, "steps": steps, "wrap": wrap}
        many = len(self.devices) if self.spatial else 1
        if self.largest_side and self.largest_side < side * many:
            side = max(self.largest_side // many, SMALLEST_TILE) // self.multiple * self.multiple
            overlap = min(overlap, side // 2)
        tall = min(side * many, tallest or side * many)
        rows = plan_axis(height, tall, overlap, **options)
        columns = plan_axis(width, side, overlap, **options)
        if self.versions > 1:  # turned, too
            length = max(rows.length, columns.length)
            rows, columns = rows._replace(length=length), columns._replace(length=length)
        length = -(-rows.length // self.row_multiple) * self.row_multiple
        return rows._replace(length=length), columns

    def _split(self, tile: Tile, side: int) -> None:
        """Does a tile in smaller ones."""
        height, width = tile.size
        rows, columns = self.plan(height, width, side, min(self.overlap, side // 2))
        image = tile.lr[:height, :width]
        parts = [
            part
            for row in rows.spans
            for part in cut_row(rows_of(image, row), row, rows, columns, tile.dtype)
        ]
        for index, part in enumerate(parts):
            part.progress = lambda done, index=index: _tell([tile], (index + done) / len(parts))
        scale, result = self.module.scale, None
        for part in self.run(parts):
            if part.error is not None:
                tile.error = part.error
                return
            assert part.result is not None
            if result is None:
                shape = tile.lr.shape[0] * scale, tile.lr.shape[1] * scale, part.result.shape[-1]
                result = np.zeros(shape, part.result.dtype)
            paste(part, result, scale)
        tile.result = result


def _tell(tiles: list[Tile], done: float) -> None:
    for tile in tiles:
        if tile.progress:
            tile.progress(done)


def _batch(tiles: list[Any], size: int) -> Any:
    """Tiles as one batch of `size`, filled with zeros; on the device if they are there."""
    xp = jnp if isinstance(tiles[0], jax.Array) else np
    return xp.stack([*tiles, *[xp.zeros_like(tiles[0])] * (size - len(tiles))])


def _key(tile: Tile) -> tuple[Any, ...]:
    return tile.lr.shape, tile.lr.dtype, tile.dtype
