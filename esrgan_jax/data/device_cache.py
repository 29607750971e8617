"""Keeps all images decoded in the memory of the devices, and crops patches there.

The images are split over the devices. A patch is cropped on the device that has its image, and sent
to the device that trains on it. The host only draws positions.
"""

import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from esrgan_jax import distributed
from esrgan_jax.checksums import checksum
from esrgan_jax.data.sources import Source
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import bytes_text
from esrgan_jax.progress import Progress
from esrgan_jax.sharding import batch_spec, batched, replicate

# A row of an image is a number of lines of so many pixels, the last of them filled up with zeros.
# An index into all bytes would not fit in 32 bits, and TPUs read multiples of 128 fast.
LINE = 128
PIECE = 2**26 // (3 * LINE)  # lines that are sent to a device at once


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
        lines: (devices · L, 3 · LINE) uint8, split over the devices.
        device: (images,) int32, which device has an image.
        first: (images,) int32, its first line there.
        per_row: (images,) int32, the lines of one of its rows.
    """

    lines: jax.Array
    device: jax.Array
    first: jax.Array
    per_row: jax.Array


class DeviceCache(NamedTuple):
    """The images of a source on the devices.

    Attributes:
        source: For `make_dataset` with `transforms.random_indices`.
        images: By name.
    """

    source: ImageShapes
    images: dict[str, Stored]


def check_fit(needed: int, room: int, mesh: Mesh) -> None:
    """Raises InputError if the images need more than `room` bytes on a device."""
    if needed > room:
        raise InputError(
            f"data.cache is device: the images take {bytes_text(needed)} or more on each of the "
            f"{mesh.size} devices, and may take {bytes_text(room)}, half of what is free; use "
            "more devices or fewer images, or leave out data.cache"
        )


def load(source: Source, mesh: Mesh, room: int) -> DeviceCache:
    """Decodes all images and copies them to the devices.

    A damaged image is replaced by the next one, as in training without a cache. Of several
    processes, each decodes all images and copies those of its own devices.

    Args:
        source: The images.
        mesh: The devices.
        room: How many bytes they may take on each.

    Raises:
        InputError: They take more, with their rows filled up to whole lines.
        RunError: An image could be read by some of the processes only.
    """
    devices = list(mesh.devices.flat)
    names = tuple(source[0])
    writers = {name: [_Writer(device) for device in devices] for name in names}
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    places: dict[str, list[tuple[int, int]]] = {name: [] for name in names}
    sums: list[int] = []
    label, first = "copying images to the devices", jax.process_index() == 0
    with Progress(len(source), "image", label, shown=first) as progress:
        for index in range(len(source)):
            for name, image in source[index].items():
                array = np.asarray(image)
                sums.append(zlib.crc32(array.tobytes()))
                shapes[name].append(array.shape)
                emptiest = min(range(len(devices)), key=lambda d: writers[name][d].count)
                places[name].append((emptiest, writers[name][emptiest].write(array)))
            lines = (sum(writers[name][d].count for name in names) for d in range(len(devices)))
            check_fit(3 * LINE * max(lines), room, mesh)
            progress.update()
    if len(set(distributed.gather(checksum([sums, shapes, places])))) > 1:
        raise RunError(
            "data.cache is device: the processes decoded different images, since one of them could "
            "not read some; start the same command again"
        )

    def stored(name: str) -> Stored:
        length = max(writer.count for writer in writers[name])
        parts = [writer.finish(length) for writer in writers[name] if writer.local]
        shape = (len(devices) * length, 3 * LINE)
        lines = jax.make_array_from_single_device_arrays(shape, batched(mesh), parts)
        per_row = [lines_per_row(shape[1]) for shape in shapes[name]]
        columns = (*zip(*places[name], strict=True), per_row)
        tables = replicate([np.array(c, np.int32) for c in columns], mesh)
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
    split: Any = batch_spec(mesh)
    whole: Any = PartitionSpec()
    in_specs = (Stored(split, whole, whole, whole), whole)

    @partial(jax.shard_map, mesh=mesh, in_specs=in_specs, out_specs=split)
    def patches(stored: Stored, wanted: Mapping[str, jax.Array]) -> jax.Array:
        number, rows, columns = wanted["image"], wanted["rows"], wanted["columns"]
        here = stored.device[number] == lax.axis_index(mesh.axis_names)
        left = columns.min(axis=1) // LINE  # in lines, as are the next two
        line = (stored.first[number] + left)[:, None] + rows * stored.per_row[number][:, None]
        across = -(-(columns.shape[1] + LINE - 1) // LINE)
        line = jnp.where(here[:, None], line, 0)[:, :, None] + jnp.arange(across)[None, None]
        part = stored.lines.at[line].get(mode="clip")  # what is beyond the end is not selected
        part = part.reshape(*rows.shape, 3 * LINE * across)
        # The columns are selected by a product with zeros and ones, exact since levels have 8 bits.
        # TPUs would take a hundred times as long to gather single bytes.
        byte = 3 * (columns - LINE * left[:, None])[:, :, None] + jnp.arange(3)[None, None]
        chosen = byte.reshape(len(byte), 1, -1) == jnp.arange(part.shape[2])[None, :, None]
        chosen = (chosen & here[:, None, None]).astype(jnp.bfloat16)
        found = jnp.einsum("nrb,nbc->nrc", part.astype(jnp.bfloat16), chosen).astype(jnp.uint8)
        found = found.reshape(*rows.shape, columns.shape[1], 3)
        # All but one device add zeros.
        return lax.psum_scatter(found, mesh.axis_names, scatter_dimension=0, tiled=True)

    def turned(name: str) -> jax.Array:
        found = patches(images[name], {"image": request["image"], **request[name]})
        transposed = request["transposed"][:, None, None, None]
        return jnp.where(transposed, found.swapaxes(1, 2), found)

    return {name: turned(name) for name in images}


def lines_per_row(width: int) -> int:
    """Returns how many lines a row of so many pixels takes."""
    return -(-width // LINE)


class _Writer:
    """Appends images to the memory of a device, in pieces, so that they need not fit on the host.

    At the end the device needs twice the memory for a moment, to join the pieces. Of a device of
    another process, it only counts the lines.
    """

    def __init__(self, device: Any) -> None:
        self.count = 0
        self.local = device.process_index == jax.process_index()
        self._device = device
        self._parts: list[jax.Array] = []
        self._lines: list[np.ndarray] = []

    def write(self, image: np.ndarray) -> int:
        """Appends an image and returns its first line."""
        first, (height, width, _) = self.count, image.shape
        self.count += height * lines_per_row(width)
        if not self.local:
            return first
        filled = np.pad(image, ((0, 0), (0, -width % LINE), (0, 0)))
        self._lines.append(filled.reshape(-1, 3 * LINE))
        if sum(map(len, self._lines)) >= PIECE:
            self._send()
        return first

    def finish(self, length: int) -> jax.Array:
        """Returns all lines on the device, (length, 3 · LINE)."""
        self._lines.append(np.zeros((length - self.count, 3 * LINE), np.uint8))
        self._send()
        return jnp.concatenate(self._parts)

    def _send(self) -> None:
        self._parts.append(jax.device_put(np.concatenate(self._lines), self._device))
        self._lines = []
