"""Reads and writes the directories of TIFF files and EXIF blocks."""

import struct
from typing import BinaryIO, NamedTuple

import numpy as np

# Tags that several modules use.
IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, PHOTOMETRIC, IMAGE_DESCRIPTION = 256, 257, 258, 262, 270
MAKE, MODEL, ORIENTATION, ARTIST, COPYRIGHT = 271, 272, 274, 315, 33432
SUB_IFDS, EXIF_IFD, GPS_IFD = 330, 34665, 34853  # pointers to further directories
USER_COMMENT = 37510
LARGEST_FIELD = 1 << 24  # the most bytes of a field that is read, as its length may be damaged
# Bytes of a value of each type, and of the numbers in it (a rational is two).
TYPE_BYTES = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8},
    **{13: 4, 16: 8, 18: 8},
}
NUMBER_BYTES = {**TYPE_BYTES, 5: 4, 10: 4}


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


class Entry(NamedTuple):
    """An entry of a directory, in the byte order of its file.

    Attributes:
        type: The number of the type, a key of TYPE_BYTES.
        length: Number of values.
        value: The values, or their offset in the file if they do not fit.
    """

    type: int
    length: int
    value: bytes


class Field(NamedTuple):
    """The number of a type, and all values as little-endian bytes."""

    type: int
    data: bytes


Entries = dict[int, Entry]  # by tag
Fields = dict[int, Field]  # by tag


def open_tiff(file: BinaryIO) -> tuple[Layout, int]:
    """Returns the layout of a TIFF and the offset of its first directory.

    Raises:
        ValueError, struct.error: It is not a TIFF, or it is truncated.
    """
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        raise ValueError("not a TIFF")
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    layout = Layout(order, big)
    return layout, struct.unpack_from(layout.counts[1], head, 8 if big else 4)[0]


def read_entries(file: BinaryIO, layout: Layout, offset: int) -> tuple[Entries, bytes]:
    """Returns the entries of a directory, and the pointer to the next directory.

    Raises:
        ValueError, struct.error: The directory is damaged.
    """
    many, word, size = layout.counts
    file.seek(offset)
    (count,) = struct.unpack(many, file.read(struct.calcsize(many)))
    if count > 4096:
        raise ValueError("a damaged directory")
    entries: Entries = {}
    place = struct.calcsize(word)
    for _ in range(count):
        entry = file.read(size)
        tag, kind, values = struct.unpack_from(f"{layout.order}HH{word[1]}", entry)
        entries[tag] = Entry(kind, values, entry[4 + place :])
    return entries, file.read(place)


def first_directory(file: BinaryIO) -> tuple[Layout, int, Entries]:
    """Returns the layout of a TIFF, and the offset and the entries of its first directory.

    Raises:
        ValueError, struct.error: The file is damaged.
    """
    layout, offset = open_tiff(file)
    return layout, offset, read_entries(file, layout, offset)[0]


def inner_directory(file: BinaryIO, layout: Layout, entries: Entries, tag: int) -> Entries:
    """Returns the entries of the directory that a tag points to; empty without that tag.

    Raises:
        ValueError, struct.error: The directory is damaged.
    """
    if tag not in entries:
        return {}
    return read_entries(file, layout, first_integer(layout, entries[tag]))[0]


def first_integer(layout: Layout, entry: Entry) -> int:
    """Returns the first value of an entry that contains unsigned integers."""
    code = {3: "H", 4: "I", 13: "I"}.get(entry.type, "Q")
    return struct.unpack_from(layout.order + code, entry.value)[0]


def read_fields(file: BinaryIO, layout: Layout, entries: Entries) -> Fields:
    """Reads the values of entries, without those of unknown type, too large or truncated."""
    fields = {}
    for tag, (kind, count, value) in entries.items():
        size = TYPE_BYTES.get(kind, 0) * count
        if not 0 < size <= LARGEST_FIELD:
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
    """Converts values from the byte order of a file to little-endian, or back."""
    unit = NUMBER_BYTES[kind]
    return data if order == "<" else np.frombuffer(data, f">u{unit}").astype(f"<u{unit}").tobytes()


def pack_directory(
    fields: Fields,
    inner: dict[int, Fields],
    layout: Layout,
    start: int,
    own: Entries | None = None,
    after: bytes = b"",
) -> bytes:
    """Returns the bytes of a directory at the offset `start`, and of all values it points to.

    Args:
        fields: Fields to write; they replace entries of the same tag.
        inner: {tag: fields} of the directories that it points to; empty ones are not written.
        own: Existing entries, which are copied unchanged.
        after: The pointer to the next directory; empty for none.
    """
    many, word, size = layout.counts
    place = struct.calcsize(word)
    tags: list[int] = sorted({*fields, *(own or {}), *(tag for tag in inner if inner[tag])})
    end = start + struct.calcsize(many) + size * len(tags) + place
    directory, values = struct.pack(many, len(tags)), b""
    for tag in tags:
        if inner.get(tag):
            kind, count, value = (16 if layout.big else 4), 1, struct.pack(word, end + len(values))
            values += pack_directory(inner[tag], {}, layout, end + len(values))
        elif tag in fields:
            kind, data = fields[tag]
            count, value = len(data) // TYPE_BYTES[kind], _swapped(data, kind, layout.order)
            if len(value) > place:
                value, values = struct.pack(word, end + len(values)), values + value
        else:
            kind, count, value = (own or {})[tag]
        values += b"\0" * (len(values) % 2)
        directory += struct.pack(f"{layout.order}HH{word[1]}", tag, kind, count)
        directory += value.ljust(place, b"\0")
    return directory + after.ljust(place, b"\0") + values
