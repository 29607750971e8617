"""Parses the boxes of HEIF, AVIF and MP4 files (ISO 14496-12 and 23008-12)."""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

LARGEST_BOX = 1 << 24  # the most bytes that are read of a box, as its length may be damaged
# Bytes before the first inner box, where a box of this kind has inner boxes.
CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"mdia": 0}


class Box(NamedTuple):
    """A box: its kind, and where its content starts and ends in the file."""

    kind: bytes
    start: int
    end: int


def brands(head: bytes) -> set[bytes]:
    """Returns the brands, such as b"avif", in the first bytes of a file; empty in other formats."""
    if head[4:8] != b"ftyp":
        return set()
    return {head[8:12], *re.findall(b"(?s)....", head[16 : int.from_bytes(head[:4])])}


def boxes(file: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yields the boxes between two offsets of a file, without the boxes inside them."""
    end = file.seek(0, 2) if end is None else end
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            size, head = int.from_bytes(file.read(8)), 16
        size = end - start if size == 0 else size
        if size < head or start + size > end:
            return  # the decoder reports the damage
        yield Box(kind, start + head, start + size)
        start += size


def inner(file: BinaryIO, box: Box) -> list[Box]:
    """Returns the boxes inside a box."""
    return list(boxes(file, box.start + CONTAINERS.get(box.kind, 0), box.end))


def content(file: BinaryIO, box: Box) -> bytes:
    """Returns the content of a box, at most LARGEST_BOX bytes of it."""
    file.seek(box.start)
    return file.read(min(box.end - box.start, LARGEST_BOX))
