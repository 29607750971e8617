"""Edits an EXIF block in place, so that maker notes stay valid."""

import io
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress

from esrgan_jax.images.metadata.exif import (
    EXIF,
    Entries,
    Field,
    Fields,
    Layout,
    number,
    open_tiff,
    pack,
    read_entries,
    read_fields,
)
from esrgan_jax.images.metadata.xmp import scaled_subject, upright_subject

HEADER = b"Exif\0\0"
ORIENTATION = 274
SUBJECT_AREA, SUBJECT_LOCATION = 37396, 41492
WIDTH, HEIGHT, INTEROP, RELATED_WIDTH, RELATED_HEIGHT = 256, 257, 40965, 4097, 4098
PLANE_X, PLANE_Y = 41486, 41487  # pixels of the sensor in a unit of length


def edited_exif(exif: bytes, about: Fields, detail: Fields) -> bytes:
    """Returns an EXIF block with fields added or replaced, without its thumbnail.

    Args:
        exif: The block; empty makes a new one.
        about: Fields of the first directory, such as Artist.
        detail: Fields of the EXIF directory, such as UserComment.

    Raises:
        ValueError: The block is damaged; also struct.error.
    """
    # A new block is big-endian: other programs write and expect UserComment so in any block.
    data = exif.removeprefix(HEADER) or struct.pack(">2sHIHI", b"MM", 42, 8, 0, 0)
    layout, first = open_tiff(io.BytesIO(data))
    own, _ = read_entries(io.BytesIO(data), layout, first)
    data += b"\0" * (len(data) % 2)
    if detail:
        inner: Entries = {}
        if EXIF in own:
            inner, _ = read_entries(io.BytesIO(data), layout, number(layout, *own[EXIF]))
        own[EXIF] = (4, 1, struct.pack(layout.counts[1], len(data)))
        data += pack(detail, {}, layout, len(data), inner)
    data += b"\0" * (len(data) % 2)
    place = struct.pack(layout.counts[1], len(data))
    return HEADER + data[:4] + place + data[8:] + pack(about, {}, layout, len(data), own)


def read_orientation(exif: bytes) -> int:
    """Returns the orientation in an EXIF block, 1 to 8; 1 if it is missing."""
    value = first_number(exif, ORIENTATION)
    return value if 1 <= value <= 8 else 1


def first_number(exif: bytes, tag: int) -> int:
    """Returns an integer in the first directory of an EXIF block; 0 if it is missing."""
    with suppress(struct.error, ValueError):
        file = io.BytesIO(exif.removeprefix(HEADER))
        layout, first = open_tiff(file)
        own, _ = read_entries(file, layout, first)
        return number(layout, *own[tag]) if tag in own else 0
    return 0


def scaled_exif(exif: bytes, size: tuple[int, int], scale: tuple[float, float]) -> bytes:
    """Returns an EXIF block for an upscaled image: values in pixels are scaled.

    Args:
        size: (width, height) of the result.
        scale: Size of the result divided by that of the original image, (across, down).
    """

    def change(detail: Fields) -> Fields:
        changed = _subject(detail, lambda numbers: scaled_subject(numbers, scale))
        for tag, factor in ((PLANE_X, scale[0]), (PLANE_Y, scale[1])):
            if tag in detail:
                changed |= {tag: _multiplied(detail[tag], factor)}
        return changed

    return _detailed(_resized(exif, size), change)


def _multiplied(field: Field, factor: float) -> Field:
    """Multiplies a fraction or a floating-point number."""
    if field.type in (11, 12):
        code = "<f" if field.type == 11 else "<d"
        return Field(field.type, struct.pack(code, struct.unpack(code, field.data)[0] * factor))
    if field.type not in (5, 10) or len(field.data) != 8:
        return field
    above, below = struct.unpack("<II", field.data)
    while above * factor >= 2**32:
        above, below = above // 2, below // 2
    return Field(field.type, struct.pack("<II", round(above * factor), below))


def _resized(exif: bytes, size: tuple[int, int]) -> bytes:
    """Returns the block with new sizes in all directories that have them, and no thumbnail."""
    data = bytearray(exif.removeprefix(HEADER))
    with suppress(struct.error, ValueError):
        file = io.BytesIO(data)
        layout, first = open_tiff(file)
        own, _ = read_entries(file, layout, first)
        (count,) = struct.unpack_from(f"{layout.order}H", data, first)
        struct.pack_into("4x", data, first + 2 + 12 * count)  # no directory of a thumbnail follows
        _overwrite(data, layout, first, {WIDTH: size[0], HEIGHT: size[1]})
        if EXIF in own:
            inner, _ = read_entries(file, layout, number(layout, *own[EXIF]))
            if INTEROP in inner:
                related = {RELATED_WIDTH: size[0], RELATED_HEIGHT: size[1]}
                _overwrite(data, layout, number(layout, *inner[INTEROP]), related)
    return HEADER + bytes(data)


def _overwrite(data: bytearray, layout: Layout, directory: int, values: Mapping[int, int]) -> None:
    """Replaces numbers that a directory already has, in place."""
    (count,) = struct.unpack_from(f"{layout.order}H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(f"{layout.order}H", data, at)
        if tag in values:
            struct.pack_into(f"{layout.order}HHII", data, at, tag, 4, 1, values[tag])


def upright_exif(exif: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """Returns the EXIF block of an image of (width, height) after it was rotated upright."""
    return _detailed(
        exif,
        lambda detail: _subject(detail, lambda n: upright_subject(n, orientation, size)),
    )


def _detailed(exif: bytes, change: Callable[[Fields], Fields]) -> bytes:
    """Returns the block with the fields that `change` returns for its EXIF directory."""
    with suppress(struct.error, ValueError, ZeroDivisionError):
        file = io.BytesIO(exif.removeprefix(HEADER))
        layout, first = open_tiff(file)
        own, _ = read_entries(file, layout, first)
        if EXIF in own:
            inner, _ = read_entries(file, layout, number(layout, *own[EXIF]))
            changed = change(read_fields(file, layout, inner))
            return edited_exif(exif, {}, changed) if changed else exif
    return exif


def _subject(detail: Fields, change: Callable[[list[float]], list[float]]) -> Fields:
    changed = {}
    for tag in (SUBJECT_AREA, SUBJECT_LOCATION):
        if tag in detail and detail[tag].type == 3 and len(detail[tag].data) >= 4:
            count = len(detail[tag].data) // 2
            numbers = change(list(map(float, struct.unpack(f"<{count}H", detail[tag].data))))
            if max(numbers) < 65536 and min(numbers) >= 0:
                packed = struct.pack(f"<{count}H", *map(round, numbers))
                changed[tag] = Field(3, packed)
    return changed
