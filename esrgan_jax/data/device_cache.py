"""Keeps all images decoded in the memory of the devices, and crops patches there.

The images are split over the devices. A patch is cropped on the device that has its image, and sent
to the device that trains on it. The host only draws positions.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from esrgan_jax.data.sources import Source
from esrgan_jax.progress import Progress
from esrgan_jax.sharding import batched, replicated

# An image is a number of lines of this many bytes, the last of them filled up with zeros: an index
# into all bytes would not fit in 32 bits, and rows of images have different lengths.
LINE = 3 * 256
PIECE = 2**26 // LINE  # lines that are sent to a device at once


class ImageShapes:
    """The source of `transforms.random_indices`: the number and the shapes of each image.

    Attributes:
        shapes: The shape of every image, by name.
    """

    def __init__(self, shapes: Mapping[str, Sequence[tuple[int, ...]]]) -> None:
        self.shapes = shapes

    def __len__(self) -> int:
        return len(self.shapes["hr"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        found = {name: shapes[index] for name, shapes in self.shapes.items()}
        return {"image": np.int32(range(len(self))[index]), **found}


class Stored(NamedTuple):
    """Images of one name, "hr" or "lr", on the devices.

    Attributes:
        lines: (devices · L, LINE) uint8, split over the devices.
        device: (images,) int32, which device has an image.
        first: (images,) int32, its first line there.
        width: (images,) int32, its pixels in a row.
    """

    lines: jax.Array
    device: jax.Array
    first: jax.Array
    width: jax.Array


class DeviceCache(NamedTuple):
    """The images of a source on the devices.

    Attributes:
        source: For `make_dataset` with `transforms.random_indices`.
        images: By name.
    """

    source: ImageShapes
    images: dict[str, Stored]


def load(source: Source, mesh: Mesh) -> DeviceCache:
    """Decodes all images and copies them to the devices.

    A damaged image is replaced by the next one, as in training without a cache.
    """
    devices = list(mesh.devices.flat)
    names = tuple(source[0])
    writers = {name: [_Writer(device) for device in devices] for name in names}
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    places: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    with Progress(len(source), "image", "copying images to the devices") as progress:
        for index in range(len(source)):
            for name, image in source[index].items():
                array = np.asarray(image)
                shapes[name].append(array.shape)
                emptiest = min(range(len(devices)), key=lambda d: writers[name][d].count)
                places[name].append((emptiest, writers[name][emptiest].write(array)))
            progress.update()

    def stored(name: str) -> Stored:
        length = max(writer.count for writer in writers[name])
        parts = [writer.finish(length) for writer in writers[name]]
        shape = (len(devices) * length, LINE)
        lines = jax.make_array_from_single_device_arrays(shape, batched(mesh), parts)
        columns = (*zip(*places[name], strict=True), [shape[1] for shape in shapes[name]])
        tables = jax.device_put([np.array(c, np.int32) for c in columns], replicated(mesh))
        return Stored(lines, *tables)

    return DeviceCache(ImageShapes(shapes), {name: stored(name) for name in names})


def crop(images: Mapping[str, Stored], request: Mapping[str, Any], mesh: Mesh) -> dict[str, Any]:
    """Crops a batch: the same patches as those of `transforms.random_patch`; the caller jits it.

    Args:
        images: As in `DeviceCache`.
        request: A batch of `transforms.random_indices`, replicated.
        mesh: The devices.

    Returns:
        A batch as from `make_dataset`, split over the devices.
    """
    split: Any = PartitionSpec("data")
    whole: Any = PartitionSpec()

    in_specs = (Stored(split, whole, whole, whole), whole)

    @partial(jax.shard_map, mesh=mesh, in_specs=in_specs, out_specs=split)
    def patches(stored: Stored, wanted: Mapping[str, jax.Array]) -> jax.Array:
        number, rows, columns = wanted["image"], wanted["rows"], wanted["columns"]
        here = stored.device[number] == lax.axis_index("data")
        pixel = rows * stored.width[number][:, None]  # the first of each row: below 2**31
        per_line = LINE // 3
        line = jnp.where(here, stored.first[number], 0)[:, None] + pixel // per_line
        offset = (pixel % per_line)[:, :, None] + columns[:, None, :]
        line = jnp.where(here[:, None, None], line[:, :, None] + offset // per_line, 0)
        byte = 3 * (offset % per_line)[..., None] + jnp.arange(3)[None, None, None]
        found = stored.lines.at[line[..., None], byte].get(mode="promise_in_bounds")
        found = jnp.where(here[:, None, None, None], found, 0)
        # All but one device add zeros.
        return lax.psum_scatter(found, "data", scatter_dimension=0, tiled=True)

    def turned(name: str) -> jax.Array:
        found = patches(images[name], {"image": request["image"], **request[name]})
        transposed = request["transposed"][:, None, None, None]
        return jnp.where(transposed, found.swapaxes(1, 2), found)

    return {name: turned(name) for name in images}


def lines_of(shape: tuple[int, ...]) -> int:
    """Returns how many lines an image takes."""
    return -(-shape[0] * shape[1] * 3 // LINE)


class _Writer:
    """Appends images to the memory of a device, in pieces, so that they need not fit on the host.

    At the end the device needs twice the memory for a moment, to join the pieces.
    """

    def __init__(self, device: Any) -> None:
        self.count = 0
        self._device = device
        self._parts: list[jax.Array] = []
        self._lines: list[np.ndarray] = []

    def write(self, image: np.ndarray) -> int:
        """Appends an image and returns its first line."""
        first, lines = self.count, lines_of(image.shape)
        flat = np.zeros(lines * LINE, np.uint8)
        flat[: image.size] = image.reshape(-1)
        self._lines.append(flat.reshape(lines, LINE))
        self.count += lines
        if sum(map(len, self._lines)) >= PIECE:
            self._send()
        return first

    def finish(self, length: int) -> jax.Array:
        """Returns all lines on the device, (length, LINE)."""
        self._lines.append(np.zeros((length - self.count, LINE), np.uint8))
        self._send()
        return jnp.concatenate(self._parts)

    def _send(self) -> None:
        self._parts.append(jax.device_put(np.concatenate(self._lines), self._device))
        self._lines = []
