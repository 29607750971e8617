"""Upscales JAX arrays on their device: tiles are cut and joined there."""

from collections.abc import Callable, Iterator
from itertools import groupby

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.upscaling.image_tiles import ImageProgress, plan_image, separate_constant_alpha
from esrgan_jax.upscaling.planes import result_bands
from esrgan_jax.upscaling.strips import white_level
from esrgan_jax.upscaling.tile import Tile
from esrgan_jax.upscaling.tile_runner import TileRunner
from esrgan_jax.upscaling.tiles import Axis, Span


def upscale_on_device(
    runner: TileRunner,
    images: list[jax.Array],
    tile: int,
    overlap: int,
    progress: Callable[[int], None] | None = None,
) -> list[jax.Array]:
    """Upscales images that are on a device, equal to `image_tiles.upscale_strips` bit for bit.

    Only single values are copied to the host: whether results are finite, and the range of alpha.
    If memory runs out, a tile is split on the host.

    Args:
        runner: Runs the network.
        images: (H, W, bands) each, uint8, uint16 or float32 in [0, 1].
        tile: Longest side of a tile in LR pixels.
        overlap: LR pixels that neighbouring tiles share.
        progress: Called with the number of newly finished pixels of the results.

    Returns:
        (scale H, scale W, `result_bands`) each, of the same dtype, on the device of the image.

    Raises:
        InputError: The network does not take images with this number of bands.
        RunError: The network's result is not finite.
    """
    scale = runner.module.scale
    plans = []
    for image in images:
        height, width, bands = image.shape
        bands, dtype = result_bands(bands, runner.module), image.dtype.name
        plans.append(plan_image(runner, height, width, bands, dtype, tile, overlap))

    def tiles() -> Iterator[Tile]:
        for index, (image, plan) in enumerate(zip(images, plans, strict=True)):
            pixels = image.shape[0] * image.shape[1] * scale**2
            counter = ImageProgress(progress or (lambda _: None), pixels, 0, 1)
            for part in _cut(image, *plan, wraps=runner.border == "wrap"):
                part.image = index
                part.progress = counter.of_tile(_area(part.row, part.column) / _area(*_ends(plan)))
                separate_constant_alpha(part, runner)
                yield part

    results = []
    for index, parts in groupby(runner.run(tiles()), key=lambda part: part.image):
        image = images[index]
        joined = _joined(parts, scale, image, result_bands(image.shape[2], runner.module))
        results.append(joined[: image.shape[0] * scale, : image.shape[1] * scale])
    return results


def _ends(plan: tuple[Axis, Axis]) -> tuple[Span, Span]:
    """Returns spans that fill the whole image."""
    rows, columns = (Span(0, 0, 0, axis.spans[-1].keep_end) for axis in plan)
    return rows, columns


def _area(row: Span, column: Span) -> int:
    return (row.keep_end - row.keep_start) * (column.keep_end - column.keep_start)


def _cut(image: jax.Array, rows: Axis, columns: Axis, wraps: bool) -> Iterator[Tile]:
    """Cuts the tiles of an image, from the top left to the bottom right."""
    for axis, plan in enumerate((rows, columns)):
        before, after = -plan.spans[0].start, plan.spans[-1].end - image.shape[axis]
        padding = [(0, 0)] * 3
        padding[axis] = before, after
        # Mirrored as in Real-ESRGAN, so that the pixel grid stays in place.
        image = jnp.pad(image, padding, mode="wrap" if wraps else "reflect")
    top, left = (min(axis.spans[0].start, 0) for axis in (rows, columns))
    for row in rows.spans:
        for column in columns.spans:
            lr = image[row.start - top : row.end - top, column.start - left : column.end - left]
            size = row.end - row.start, column.end - column.start
            fill = rows.length - size[0], columns.length - size[1]
            lr = jnp.pad(lr, [(0, fill[0]), (0, fill[1]), (0, 0)])
            yield Tile(lr, size, image.dtype.name, row, column)


def _joined(tiles: Iterator[Tile], scale: int, image: jax.Array, bands: int) -> jax.Array:
    """Joins the results of one image's tiles on the image's device."""
    device = min(image.devices(), key=lambda device: device.id)
    strips = []
    for _, row in groupby(tiles, key=lambda tile: tile.row):
        parts = []
        for tile in row:
            if tile.error is not None:
                raise tile.error
            inner = tuple(
                slice((span.keep_start - span.start) * scale, (span.keep_end - span.start) * scale)
                for span in (tile.row, tile.column)
            )
            assert tile.result is not None
            part = jax.device_put(tile.result[inner], device)
            if tile.constant_alpha is not None:
                full = white_level(part.dtype)
                value = tile.constant_alpha if full == 1 else np.rint(tile.constant_alpha * full)
                alpha = jnp.full((*part.shape[:2], 1), value, part.dtype, device=device)
                part = jnp.concatenate([part[..., : bands - 1], alpha], -1)
            assert tile.progress
            tile.progress(1)
            parts.append(part)
        strips.append(jnp.concatenate(parts, axis=1))
    return jnp.concatenate(strips, axis=0)
