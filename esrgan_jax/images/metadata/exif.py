"""Reads and writes EXIF as TIFF directories.

An EXIF block is a small TIFF file. libvips reads and writes it in other formats, but ignores these
fields in a TIFF; this module converts the fields of a TIFF to a block and back.
"""

import io
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

EXIF, GPS = 34665, 34853  # the two tags that point to further directories
IPTC = 33723
SOFTWARE, USER_COMMENT, PIXEL_WIDTH, PIXEL_HEIGHT = 305, 37510, 40962, 40963
# Title, maker, model, software, time, artist, computer, rating, copyright, and Windows' own.
ABOUT = {270, 271, 272, SOFTWARE, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
NOT_CARRIED = {40965}  # points at a third level that says only "R98"
DESCRIPTION = 270
# Descriptions that programs read as the layout of the pixels: tifffile's, ImageJ's and OME-TIFF's.
OF_PIXELS = re.compile(rb'\s*(\{"shape"|ImageJ=|(<\?xml.{,4000}?)?<OME\b)', re.DOTALL)
LARGEST = 1 << 24  # bytes of one field, whose length may be damaged
# Bytes of a value of each type, and of the numbers in it (a rational is two).
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
UNITS = {**SIZES, 5: 4, 10: 4}


class Field(NamedTuple):
    """A value of a TIFF: the number of its type and its bytes, little-endian."""

    type: int
    data: bytes


Fields = dict[int, Field]


class Layout(NamedTuple):
    """The byte order of a TIFF, "<" or ">", and whether it is a BigTIFF."""

    order: str
    big: bool

    @property
    def counts(self) -> tuple[str, str, int]:
        """struct formats of the number of fields and of an offset, and the bytes of a field."""
        return (
            (f"{self.order}Q", f"{self.order}Q", 20)
            if self.big
            else (f"{self.order}H", f"{self.order}I", 12)
        )


def read_tiff_exif(file: BinaryIO) -> bytes | None:
    """Returns the fields of an open TIFF as an EXIF block; None if it has none."""
    try:
        about, below = _read(file)
    except (struct.error, ValueError):
        return None  # the pixels may still be readable
    if not about and not any(below.values()):
        return None
    header = struct.pack("<2sHI", b"II", 42, 8)
    return b"Exif\0\0" + header + pack(about, below, Layout("<", False), 8)


def append_exif(
    path: Path,
    exif: bytes | None,
    software: str | None,
    iptc: bytes | None,
    further: Fields | None = None,
) -> None:
    """Appends the fields of an EXIF block to a finished TIFF; the pixels are not moved.

    Args:
        exif: As `read_tiff_exif` returns it; PixelXDimension and PixelYDimension, where it has
            them, become the size of the image.
        software: The Software field.
        iptc: The IPTC-NAA field, of which libvips writes the first quarter.
        further: Fields of other kinds, in place of the file's own.
    """
    about, below = {}, {}
    if exif is not None:
        with suppress(struct.error, ValueError):  # a damaged block is dropped
            about, below = _read(io.BytesIO(exif.removeprefix(b"Exif\0\0")))
    if software is not None:
        about[SOFTWARE] = Field(2, software.encode() + b"\0")
    if iptc:
        about[IPTC] = Field(7, iptc)
    with path.open("r+b") as file:
        layout, first = open_tiff(file)
        own, after = read_entries(file, layout, first)
        detail = below.get(EXIF, {})
        for tag, side in ((PIXEL_WIDTH, 256), (PIXEL_HEIGHT, 257)):
            if tag in detail:
                kind, count, value = own[side]
                detail[tag] = Field(4, struct.pack("<I", number(layout, kind, count, value)))
        start = file.seek(0, 2)
        start += start % 2
        added = {tag: about[tag] for tag in about if tag not in own or tag in (SOFTWARE, IPTC)}
        added |= further or {}
        file.seek(start)
        file.write(pack(added, below, layout, start, own, after))
        file.seek(8 if layout.big else 4)
        file.write(struct.pack(layout.counts[1], start))


def open_tiff(file: BinaryIO) -> tuple[Layout, int]:
    """Returns the layout of a TIFF and the offset of its first directory."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("not a TIFF")
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    layout = Layout(order, big)
    return layout, struct.unpack_from(layout.counts[1], head, 8 if big else 4)[0]


Entries = dict[int, tuple[int, int, bytes]]


def read_entries(file: BinaryIO, layout: Layout, offset: int) -> tuple[Entries, bytes]:
    """Returns {tag: (type, count, value or offset)} and the pointer to the next directory."""
    many, word, size = layout.counts
    file.seek(offset)
    (count,) = struct.unpack(many, file.read(struct.calcsize(many)))
    if count > 4096:
        raise ValueError("a damaged directory")
    entries, place = {}, struct.calcsize(word)
    for _ in range(count):
        entry = file.read(size)
        tag, kind, number = struct.unpack_from(f"{layout.order}HH{word[1]}", entry)
        entries[tag] = (kind, number, entry[4 + place :])
    return entries, file.read(place)


def number(layout: Layout, kind: int, count: int, value: bytes) -> int:
    return struct.unpack_from(layout.order + {3: "H", 4: "I", 13: "I"}.get(kind, "Q"), value)[0]


def _read(file: BinaryIO) -> tuple[Fields, dict[int, Fields]]:
    """Returns the fields about the image, and its directories {EXIF: …, GPS: …}."""
    layout, first = open_tiff(file)
    entries, _ = read_entries(file, layout, first)
    about = read_fields(file, layout, {tag: entries[tag] for tag in ABOUT if tag in entries})
    if OF_PIXELS.match(about.get(DESCRIPTION, Field(2, b"")).data):
        del about[DESCRIPTION]  # does not apply to a result
    below = {}
    for tag in (EXIF, GPS):
        if tag in entries:
            inner, _ = read_entries(file, layout, number(layout, *entries[tag]))
            below[tag] = read_fields(
                file, layout, {t: entry for t, entry in inner.items() if t not in NOT_CARRIED}
            )
    return about, below


def read_fields(file: BinaryIO, layout: Layout, entries: Entries) -> Fields:
    fields = {}
    for tag, (kind, count, value) in entries.items():
        size = SIZES.get(kind, 0) * count
        if not 0 < size <= LARGEST:
            continue
        if size > len(value):
            file.seek(struct.unpack(layout.counts[1], value)[0])
            value = file.read(size)
        if len(value) < size:
            continue
        data = _swapped(value[:size], kind, layout.order)
        if tag == USER_COMMENT and data.startswith(b"UNICODE\0"):
            data = data[:8] + _swapped(data[8 : size // 2 * 2], 3, layout.order)
        fields[tag] = Field(kind, data)
    return fields


def _swapped(data: bytes, kind: int, order: str) -> bytes:
    unit = UNITS[kind]
    return data if order == "<" else np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()


def pack(
    about: Fields,
    below: dict[int, Fields],
    layout: Layout,
    start: int,
    own: Entries | None = None,
    after: bytes = b"",
) -> bytes:
    """Returns the bytes of a directory for the offset `start`, with all values it points to.

    Args:
        own: Existing entries, which are copied unchanged.
        after: The pointer to the next directory; empty for none.
    """
    many, word, size = layout.counts
    place = struct.calcsize(word)
    tags: list[int] = sorted({*about, *(own or {}), *(tag for tag in below if below[tag])})
    end = start + struct.calcsize(many) + size * len(tags) + place
    directory, values = struct.pack(many, len(tags)), b""
    for tag in tags:
        if below.get(tag):
            kind, count, value = (16 if layout.big else 4), 1, struct.pack(word, end + len(values))
            values += pack(below[tag], {}, layout, end + len(values))
        elif tag in about:
            kind, data = about[tag]
            count, value = len(data) // SIZES[kind], _swapped(data, kind, layout.order)
            if len(value) > place:
                value, values = struct.pack(word, end + len(values)), values + value
        else:
            kind, count, value = (own or {})[tag]
        values += b"\0" * (len(values) % 2)
        directory += struct.pack(f"{layout.order}HH{word[1]}", tag, kind, count)
        directory += value.ljust(place, b"\0")
    return directory + after.ljust(place, b"\0") + values
