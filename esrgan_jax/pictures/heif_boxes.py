"""What the boxes of HEIF and AVIF say of the picture that is meant to be shown."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

LARGEST = 1 << 24  # bytes of the boxes before the pixels


def primary_colors(file: BinaryIO) -> dict[bytes, bytes]:
    """The colour boxes of the primary picture: {b"nclx": …, b"prof": …}, or of its first tile.

    Raises:
        struct.error, ValueError: The boxes are damaged.
    """
    meta = _meta(file)
    boxes = dict(_boxes(meta[4:]))
    pitm = boxes.get(b"pitm", b"")
    if len(pitm) < 6:
        return {}
    primary = int.from_bytes(pitm[4:6] if pitm[0] == 0 else pitm[4:8])
    inner = dict(_boxes(boxes.get(b"iprp", b"")))
    properties = list(_boxes(inner.get(b"ipco", b"")))
    owned = _associations(inner.get(b"ipma", b""))
    for item in (primary, *_tiles(boxes.get(b"iref", b""), primary)[:1]):
        found = [properties[i - 1] for i in owned.get(item, []) if 0 < i <= len(properties)]
        colors = {data[:4]: data[4:] for kind, data in found if kind == b"colr"}
        if colors:
            return colors
    return {}


def _meta(file: BinaryIO) -> bytes:
    file.seek(0)
    while len(head := file.read(8)) == 8:
        size, kind, read = int.from_bytes(head[:4]), head[4:], 8
        if size == 1:
            size, read = int.from_bytes(file.read(8)), 16
        if kind == b"meta":
            return file.read(min(size - read, LARGEST))
        if size < read:  # 0: to the end of the file
            break
        file.seek(size - read, 1)
    raise ValueError("it has no box of metadata")


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        read = 8
        if size == 1:
            (size,), read = struct.unpack_from(">Q", data, at + 8), 16
        if size < read:
            return
        yield kind, data[at + read : at + size]
        at += size


def _associations(data: bytes) -> dict[int, list[int]]:
    """The numbers of the properties of each item, from 1."""
    if len(data) < 8:
        return {}
    wide, version = data[3] & 1, data[0]
    (count,), at, owned = struct.unpack_from(">I", data, 4), 8, {}
    for _ in range(count):
        item, many = struct.unpack_from(">HB" if version < 1 else ">IB", data, at)
        at += 3 if version < 1 else 5
        numbers = struct.unpack_from(f">{many}{'H' if wide else 'B'}", data, at)
        at += many * (2 if wide else 1)
        owned[item] = [number & (0x7FFF if wide else 0x7F) for number in numbers]
    return owned


def _tiles(data: bytes, item: int) -> list[int]:
    """The items that an item is put together from."""
    if not data:
        return []
    code = ">I" if data[0] else ">H"
    size = struct.calcsize(code)
    for kind, reference in _boxes(data[4:]):
        (source,) = struct.unpack_from(code, reference)
        if kind == b"dimg" and source == item:
            (count,) = struct.unpack_from(">H", reference, size)
            numbers = struct.unpack_from(f">{count}{code[1]}", reference, size + 2)
            return list(numbers)
    return []
