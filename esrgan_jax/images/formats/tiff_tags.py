"""Reads the numeric tags of one image of a TIFF."""

import struct
from collections.abc import Iterable
from typing import BinaryIO

from esrgan_jax.images.metadata.exif import SIZES, Entries, Fields, Layout, open_tiff, read_entries
from esrgan_jax.images.metadata.exif import read_fields as _read_fields

NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q"}
SUB_DIRECTORIES = 330


def directory(file: BinaryIO, page: int = 0, subifd: int = -1) -> tuple[Layout, int, Entries]:
    """Returns the layout, the offset and the entries of a directory, by libvips' options.

    Raises:
        struct.error, ValueError: The file is damaged.
    """
    layout, offset = open_tiff(file)
    entries, after = read_entries(file, layout, offset)
    for _ in range(page):
        (offset,) = struct.unpack(layout.counts[1], after)
        entries, after = read_entries(file, layout, offset)
    if subifd >= 0:
        below = numbers(_read_fields(file, layout, entries), SUB_DIRECTORIES)
        offset = int(below[subifd])
        entries, _ = read_entries(file, layout, offset)
    return layout, offset, entries


def read_tags(file: BinaryIO, wanted: Iterable[int], page: int = 0, subifd: int = -1) -> Fields:
    """Returns those of the wanted tags that exist, little-endian; empty if the TIFF is damaged."""
    try:
        layout, _, entries = directory(file, page, subifd)
        return _read_fields(file, layout, {t: entries[t] for t in wanted if t in entries})
    except (struct.error, ValueError, IndexError):
        return {}  # libvips reports what is wrong


def place_of_value(file: BinaryIO, wanted: int, page: int = 0, subifd: int = -1) -> int:
    """Returns the offset of the value of a tag that is stored in its entry."""
    layout, offset, entries = directory(file, page, subifd)
    many, word, size = layout.counts
    index = list(entries).index(wanted)
    return offset + struct.calcsize(many) + size * (index + 1) - struct.calcsize(word)


def numbers(tags: Fields, tag: int) -> tuple[float, ...]:
    """Returns the numbers of a tag; empty if it is missing or not numeric."""
    if tag not in tags:
        return ()
    kind, data = tags[tag]
    count = len(data) // SIZES[kind]
    if kind in (5, 10):
        pairs = struct.unpack(f"<{2 * count}{'I' if kind == 5 else 'i'}", data)
        return tuple(a / b if b else 0.0 for a, b in zip(pairs[::2], pairs[1::2], strict=True))
    return struct.unpack(f"<{count}{NUMBERS[kind]}", data) if kind in NUMBERS else ()
