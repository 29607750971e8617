"""Reads the EXIF block of a TIFF, and writes one into it.

An EXIF block is a small TIFF. libvips reads and writes it in other formats, but ignores these
fields in a TIFF, where they are among the file's own.
"""

import io
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from esrgan_jax.images.formats.tiff_directory import (
    ARTIST,
    COPYRIGHT,
    EXIF_IFD,
    GPS_IFD,
    IMAGE_DESCRIPTION,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    MAKE,
    MODEL,
    Field,
    Fields,
    Layout,
    first_directory,
    first_integer,
    inner_directory,
    open_tiff,
    pack_directory,
    read_entries,
    read_fields,
)

EXIF_HEADER = b"Exif\0\0"
SOFTWARE_TAG, IPTC_TAG, PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION = 305, 33723, 40962, 40963
DESCRIPTIVE = {
    *(IMAGE_DESCRIPTION, MAKE, MODEL, SOFTWARE_TAG, ARTIST, COPYRIGHT),
    *(306, 316, 18246, 18249, *range(40091, 40096)),  # time, computer, ratings, Windows' own
}
NOT_COPIED = {40965}  # the pointer to the interoperability directory, which contains only "R98"
# Descriptions of the layout of the pixels, which programs parse: tifffile's, ImageJ's, OME-TIFF's.
OF_PIXELS = re.compile(rb'\s*(\{"shape"|ImageJ=|(<\?xml.{,4000}?)?<OME\b)', re.DOTALL)


def read_tiff_exif(file: BinaryIO) -> bytes | None:
    """Returns the descriptive fields of an open TIFF as an EXIF block; None if it has none."""
    try:
        fields, inner = _read(file)
    except (struct.error, ValueError):
        return None  # the pixels may still be readable
    if not fields and not any(inner.values()):
        return None
    header = struct.pack("<2sHI", b"II", 42, 8)
    return EXIF_HEADER + header + pack_directory(fields, inner, Layout("<", False), 8)


def append_exif(
    path: Path,
    exif: bytes | None,
    software: str | None,
    iptc: bytes | None,
    further: Fields | None = None,
) -> None:
    """Adds the fields of an EXIF block to a finished TIFF; the pixels are not moved.

    Args:
        exif: As `read_tiff_exif` returns it. Its PixelXDimension and PixelYDimension are replaced
            by the size of the image.
        software: The Software field.
        iptc: The IPTC-NAA field, of which libvips writes only the first quarter.
        further: Other fields, which replace those of the file.
    """
    fields, inner = {}, {}
    if exif is not None:
        with suppress(struct.error, ValueError):  # a damaged block is dropped
            fields, inner = _read(io.BytesIO(exif.removeprefix(EXIF_HEADER)))
    if software is not None:
        fields[SOFTWARE_TAG] = Field(2, software.encode() + b"\0")
    if iptc:
        fields[IPTC_TAG] = Field(7, iptc)
    with path.open("r+b") as file:
        layout, first = open_tiff(file)
        own, after = read_entries(file, layout, first)
        detail = inner.get(EXIF_IFD, {})
        for tag, side in ((PIXEL_X_DIMENSION, IMAGE_WIDTH), (PIXEL_Y_DIMENSION, IMAGE_LENGTH)):
            if tag in detail:
                detail[tag] = Field(4, struct.pack("<I", first_integer(layout, own[side])))
        start = file.seek(0, 2)
        start += start % 2
        replaced = (SOFTWARE_TAG, IPTC_TAG)
        added = {tag: fields[tag] for tag in fields if tag not in own or tag in replaced}
        added |= further or {}
        file.seek(start)
        file.write(pack_directory(added, inner, layout, start, own, after))
        file.seek(8 if layout.big else 4)
        file.write(struct.pack(layout.counts[1], start))


def _read(file: BinaryIO) -> tuple[Fields, dict[int, Fields]]:
    """Returns the descriptive fields of an open TIFF, and {EXIF_IFD: fields, GPS_IFD: fields}."""
    layout, _, own = first_directory(file)
    fields = read_fields(file, layout, {tag: own[tag] for tag in DESCRIPTIVE if tag in own})
    if OF_PIXELS.match(fields.get(IMAGE_DESCRIPTION, Field(2, b"")).data):
        del fields[IMAGE_DESCRIPTION]  # the result has other pixels
    inner = {}
    for pointer in (EXIF_IFD, GPS_IFD):
        entries = inner_directory(file, layout, own, pointer)
        copied = {tag: entry for tag, entry in entries.items() if tag not in NOT_COPIED}
        inner[pointer] = read_fields(file, layout, copied)
    return fields, inner
