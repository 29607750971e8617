"""Edits EXIF blocks without moving the fields that stay, so that maker notes remain valid."""

import io
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress

from esrgan_jax.images.formats.tiff_directory import (
    EXIF_IFD,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    ORIENTATION,
    Entry,
    Field,
    Fields,
    Layout,
    first_directory,
    first_integer,
    inner_directory,
    pack_directory,
    read_fields,
)
from esrgan_jax.images.metadata.exif import EXIF_HEADER
from esrgan_jax.images.metadata.xmp import scaled_subject, upright_subject

SUBJECT_AREA, SUBJECT_LOCATION = 37396, 41492
INTEROPERABILITY_IFD, RELATED_WIDTH, RELATED_HEIGHT = 40965, 4097, 4098
FOCAL_PLANE_X, FOCAL_PLANE_Y = 41486, 41487  # pixels of the sensor per unit of length


def edited_exif(exif: bytes, main: Fields, detail: Fields) -> bytes:
    """Returns an EXIF block with fields added or replaced, without its thumbnail.

    Args:
        exif: The block; if it is empty, a new one is made.
        main: Fields of the first directory, such as Artist.
        detail: Fields of the EXIF directory, such as UserComment.

    Raises:
        ValueError: The block is damaged; also struct.error.
    """
    # A new block is big-endian, as other programs expect a big-endian UserComment in any block.
    data = exif.removeprefix(EXIF_HEADER) or struct.pack(">2sHIHI", b"MM", 42, 8, 0, 0)
    file = io.BytesIO(data)
    layout, _, own = first_directory(file)
    data += b"\0" * (len(data) % 2)
    if detail:
        inner = inner_directory(file, layout, own, EXIF_IFD)
        own[EXIF_IFD] = Entry(4, 1, struct.pack(layout.counts[1], len(data)))
        data += pack_directory(detail, {}, layout, len(data), inner)
    data += b"\0" * (len(data) % 2)
    place = struct.pack(layout.counts[1], len(data))
    directory = pack_directory(main, {}, layout, len(data), own)
    return EXIF_HEADER + data[:4] + place + data[8:] + directory


def read_orientation(exif: bytes) -> int:
    """Returns the orientation in an EXIF block, 1 to 8; 1 if it is missing or invalid."""
    value = first_number(exif, ORIENTATION)
    return value if 1 <= value <= 8 else 1


def first_number(exif: bytes, tag: int) -> int:
    """Returns an integer in the first directory of an EXIF block; 0 if it is missing."""
    with suppress(struct.error, ValueError):
        layout, _, own = first_directory(io.BytesIO(exif.removeprefix(EXIF_HEADER)))
        return first_integer(layout, own[tag]) if tag in own else 0
    return 0


def scaled_exif(exif: bytes, size: tuple[int, int], scale: tuple[float, float]) -> bytes:
    """Returns an EXIF block for an upscaled image: values in pixels are scaled.

    Args:
        size: (width, height) of the result.
        scale: Size of the result divided by that of the original image, (across, down).
    """

    def change(detail: Fields) -> Fields:
        changed = _subject(detail, lambda numbers: scaled_subject(numbers, scale))
        for tag, factor in ((FOCAL_PLANE_X, scale[0]), (FOCAL_PLANE_Y, scale[1])):
            if tag in detail:
                changed |= {tag: _multiplied(detail[tag], factor)}
        return changed

    return _with_detail(_resized(exif, size), change)


def _multiplied(field: Field, factor: float) -> Field:
    """Multiplies a rational or floating-point number; other fields are returned unchanged."""
    if field.type in (11, 12):
        code = "<f" if field.type == 11 else "<d"
        return Field(field.type, struct.pack(code, struct.unpack(code, field.data)[0] * factor))
    if field.type not in (5, 10) or len(field.data) != 8:
        return field
    numerator, denominator = struct.unpack("<II", field.data)
    while numerator * factor >= 2**32:
        numerator, denominator = numerator // 2, denominator // 2
    return Field(field.type, struct.pack("<II", round(numerator * factor), denominator))


def _resized(exif: bytes, size: tuple[int, int]) -> bytes:
    """Returns the block with the new size wherever it has the size, and without its thumbnail."""
    width, height = size
    data = bytearray(exif.removeprefix(EXIF_HEADER))
    with suppress(struct.error, ValueError):
        file = io.BytesIO(data)
        layout, first, own = first_directory(file)
        (count,) = struct.unpack_from(f"{layout.order}H", data, first)
        struct.pack_into("4x", data, first + 2 + 12 * count)  # no thumbnail
        _overwrite(data, layout, first, {IMAGE_WIDTH: width, IMAGE_LENGTH: height})
        inner = inner_directory(file, layout, own, EXIF_IFD)
        if INTEROPERABILITY_IFD in inner:
            offset = first_integer(layout, inner[INTEROPERABILITY_IFD])
            _overwrite(data, layout, offset, {RELATED_WIDTH: width, RELATED_HEIGHT: height})
    return EXIF_HEADER + bytes(data)


def _overwrite(data: bytearray, layout: Layout, directory: int, values: Mapping[int, int]) -> None:
    """Replaces integers of the directory at an offset, in place; missing ones are not added."""
    (count,) = struct.unpack_from(f"{layout.order}H", data, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(f"{layout.order}H", data, at)
        if tag in values:
            struct.pack_into(f"{layout.order}HHII", data, at, tag, 4, 1, values[tag])


def upright_exif(exif: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """Returns the EXIF block of an image that was rotated upright.

    Args:
        orientation: The EXIF orientation of the stored image, 1 to 8.
        size: (width, height) as stored.
    """
    return _with_detail(
        exif,
        lambda detail: _subject(detail, lambda n: upright_subject(n, orientation, size)),
    )


def _with_detail(exif: bytes, change: Callable[[Fields], Fields]) -> bytes:
    """Adds to the EXIF directory the fields that `change` makes from its fields."""
    with suppress(struct.error, ValueError, ZeroDivisionError):
        file = io.BytesIO(exif.removeprefix(EXIF_HEADER))
        layout, _, own = first_directory(file)
        changed = change(read_fields(file, layout, inner_directory(file, layout, own, EXIF_IFD)))
        return edited_exif(exif, {}, changed) if changed else exif
    return exif


def _subject(detail: Fields, change: Callable[[list[float]], list[float]]) -> Fields:
    """Applies `change` to SubjectArea and SubjectLocation, where the result is valid."""
    changed = {}
    for tag in (SUBJECT_AREA, SUBJECT_LOCATION):
        if tag in detail and detail[tag].type == 3 and len(detail[tag].data) >= 4:
            count = len(detail[tag].data) // 2
            numbers = change(list(map(float, struct.unpack(f"<{count}H", detail[tag].data))))
            if max(numbers) < 65536 and min(numbers) >= 0:
                packed = struct.pack(f"<{count}H", *map(round, numbers))
                changed[tag] = Field(3, packed)
    return changed
