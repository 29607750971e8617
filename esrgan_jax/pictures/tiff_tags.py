"""Tags of the first picture of a TIFF, as numbers."""

import struct
from collections.abc import Iterable
from typing import BinaryIO

from esrgan_jax.pictures.exif import SIZES, Fields, open_tiff, read_entries, read_fields

NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q"}


def read_tags(file: BinaryIO, wanted: Iterable[int]) -> Fields:
    """The wanted tags that are there, low bytes first; none of a TIFF too damaged to say."""
    try:
        layout, first = open_tiff(file)
        entries, _ = read_entries(file, layout, first)
        found = {tag: entries[tag] for tag in wanted if tag in entries}
        return read_fields(file, layout, found)
    except (struct.error, ValueError):
        return {}  # libvips judges it


def numbers(tags: Fields, tag: int) -> tuple[float, ...]:
    """The numbers of a tag; none where it is not there or is no number."""
    if tag not in tags:
        return ()
    kind, data = tags[tag]
    count = len(data) // SIZES[kind]
    if kind in (5, 10):
        pairs = struct.unpack(f"<{2 * count}{'I' if kind == 5 else 'i'}", data)
        return tuple(a / b if b else 0.0 for a, b in zip(pairs[::2], pairs[1::2], strict=True))
    return struct.unpack(f"<{count}{NUMBERS[kind]}", data) if kind in NUMBERS else ()
