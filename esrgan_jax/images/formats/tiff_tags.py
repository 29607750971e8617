"""Reads the tags of one image of a TIFF."""

import struct
from collections.abc import Iterable
from typing import BinaryIO

from esrgan_jax.images.formats.tiff_directory import (
    SUB_IFDS,
    TYPE_BYTES,
    Entries,
    Fields,
    Layout,
    open_tiff,
    read_entries,
    read_fields,
)

# struct formats of the types; a rational is two integers.
CODES = {
    **{1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"},
    **{13: "I", 16: "Q", 18: "Q"},
}


def directory(file: BinaryIO, page: int = 0, subifd: int = -1) -> tuple[Layout, int, Entries]:
    """Returns the layout, and the offset and the entries of a directory.

    Args:
        page, subifd: The options of libvips that select it.

    Raises:
        struct.error, ValueError, IndexError: The file is damaged.
    """
    layout, offset = open_tiff(file)
    entries, after = read_entries(file, layout, offset)
    for _ in range(page):
        (offset,) = struct.unpack(layout.counts[1], after)
        entries, after = read_entries(file, layout, offset)
    if subifd >= 0:
        below = numbers(read_fields(file, layout, entries), SUB_IFDS)
        offset = int(below[subifd])
        entries, _ = read_entries(file, layout, offset)
    return layout, offset, entries


def read_tags(file: BinaryIO, wanted: Iterable[int], page: int = 0, subifd: int = -1) -> Fields:
    """Returns those of the wanted tags that exist; none if the TIFF is damaged."""
    try:
        layout, _, entries = directory(file, page, subifd)
        return read_fields(file, layout, {t: entries[t] for t in wanted if t in entries})
    except (struct.error, ValueError, IndexError):
        return {}  # libvips reports the damage


def offset_of_value(file: BinaryIO, tag: int, page: int = 0, subifd: int = -1) -> int:
    """Returns the offset in the file of a value that is stored in the entry of its tag."""
    layout, offset, entries = directory(file, page, subifd)
    many, word, size = layout.counts
    index = list(entries).index(tag)
    return offset + struct.calcsize(many) + size * (index + 1) - struct.calcsize(word)


def numbers(tags: Fields, tag: int) -> tuple[float, ...]:
    """Returns the values of a numeric tag; empty if it is missing or not numeric."""
    if tag not in tags:
        return ()
    kind, data = tags[tag]
    count = len(data) // TYPE_BYTES[kind]
    if kind in (5, 10):
        pairs = struct.unpack(f"<{2 * count}{'I' if kind == 5 else 'i'}", data)
        return tuple(a / b if b else 0.0 for a, b in zip(pairs[::2], pairs[1::2], strict=True))
    return struct.unpack(f"<{count}{CODES[kind]}", data) if kind in CODES else ()
