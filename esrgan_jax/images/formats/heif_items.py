"""Reads the items of a HEIF or AVIF file and their properties."""

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import BinaryIO, NamedTuple, Never

from esrgan_jax.images.formats.isobmff import Box, boxes, content, inner

Property = tuple[bytes, bytes]  # kind and content
NONE: Mapping[int, Never] = MappingProxyType({})
ITEM_BYTES = 4096  # the most bytes that are read of an item


class Items(NamedTuple):
    """The items that the "meta" box lists.

    Attributes:
        primary: The number of the primary image; numbers are the keys of the other attributes.
        kinds: The kind of each item, such as b"av01".
        properties: All properties in the file.
        owned: The properties of each item, in order.
        sources: The items that each composed item consists of, such as the tiles of a grid.
        places: (offset in the file, length) of the first piece of each item.
    """

    primary: int = 0
    kinds: Mapping[int, bytes] = NONE
    properties: tuple[Property, ...] = ()
    owned: Mapping[int, tuple[Property, ...]] = NONE
    sources: Mapping[int, tuple[int, ...]] = NONE
    places: Mapping[int, tuple[int, int]] = NONE

    def of(self, item: int) -> dict[bytes, bytes]:
        """Returns {kind: content} of an item's properties; the last one of each kind."""
        return dict(self.owned.get(item, ()))

    @property
    def coded(self) -> int:
        """The primary image, or if it is composed of others, the first of those."""
        item = self.primary
        for _ in range(8):  # only damaged files are nested deeper
            if not self.sources.get(item):
                break
            item = self.sources[item][0]
        return item


def read_heif_items(file: BinaryIO) -> Items:
    """Reads the items of an open file; empty if it has no "meta" box.

    Raises:
        struct.error, IndexError: A box is damaged.
    """
    meta = next((box for box in boxes(file) if box.kind == b"meta"), None)
    if meta is None:
        return Items()
    found = {box.kind: box for box in inner(file, meta)}
    data = {kind: content(file, box) for kind, box in found.items() if kind != b"iprp"}
    properties: list[Property] = []
    owned: dict[int, list[int]] = {}
    for box in inner(file, found[b"iprp"]) if b"iprp" in found else []:
        if box.kind == b"ipco":
            properties = [(one.kind, content(file, one)) for one in inner(file, box)]
        elif box.kind == b"ipma":
            owned |= _associations(content(file, box))
    pitm = data.get(b"pitm", bytes(6))
    idat = found.get(b"idat")
    return Items(
        int.from_bytes(pitm[4:6] if pitm[0] == 0 else pitm[4:8]),
        _kinds(file, found[b"iinf"]) if b"iinf" in found else {},
        tuple(properties),
        {
            item: tuple(properties[n - 1] for n in numbers if 0 < n <= len(properties))
            for item, numbers in owned.items()
        },
        _sources(file, found[b"iref"]) if b"iref" in found else {},
        _places(data.get(b"iloc", b""), idat.start if idat else 0),
    )


def first_bytes(file: BinaryIO, items: Items, item: int) -> bytes:
    """Returns the first bytes of an item, at most ITEM_BYTES."""
    start, length = items.places.get(item, (0, 0))
    file.seek(start)
    return file.read(min(length, ITEM_BYTES))


def _kinds(file: BinaryIO, iinf: Box) -> dict[int, bytes]:
    version = content(file, iinf)[0]
    start, kinds = iinf.start + (6 if version == 0 else 8), {}
    for box in boxes(file, start, iinf.end):
        data = content(file, box)
        if box.kind == b"infe" and data[0] >= 2:  # entries of older versions have no kind
            wide = 4 if data[0] == 3 else 2
            kinds[int.from_bytes(data[4 : 4 + wide])] = data[6 + wide : 10 + wide]
    return kinds


def _associations(data: bytes) -> dict[int, list[int]]:
    """Parses ipma: {item: numbers of its properties, from 1}."""
    version, wide = data[0], data[3] & 1
    (count,), at, found = struct.unpack_from(">I", data, 4), 8, {}
    for _ in range(count):
        item, many = struct.unpack_from(">HB" if version < 1 else ">IB", data, at)
        at += 3 if version < 1 else 5
        numbers = struct.unpack_from(f">{many}{'H' if wide else 'B'}", data, at)
        at += many * (2 if wide else 1)
        found[item] = [number & (0x7FFF if wide else 0x7F) for number in numbers]
    return found


def _sources(file: BinaryIO, iref: Box) -> dict[int, tuple[int, ...]]:
    code = "I" if content(file, iref)[0] else "H"
    size, found = struct.calcsize(code), {}
    for box in boxes(file, iref.start + 4, iref.end):
        if box.kind == b"dimg":
            data = content(file, box)
            item, count = struct.unpack_from(f">{code}H", data)
            found[item] = struct.unpack_from(f">{count}{code}", data, size + 2)
    return found


def _places(data: bytes, idat: int) -> dict[int, tuple[int, int]]:
    """Parses iloc: {item: (offset of its first piece in the file, length of the piece)}.

    Args:
        idat: Offset of the content of the "idat" box.
    """
    if not data:
        return {}
    version, sizes, at, found = data[0], [data[4] >> 4, data[4] & 15, data[5] >> 4], 6, {}
    sizes.append(data[5] & 15 if version else 0)  # of offset, length, base and index

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(data):
            raise IndexError("a truncated box")
        at += size
        return int.from_bytes(data[at - size : at])

    wide = 4 if version == 2 else 2
    for _ in range(number(wide)):
        item, method = number(wide), number(2) & 15 if version else 0
        number(2)  # the file that contains the item
        start, pieces = number(sizes[2]), []
        for _ in range(number(2)):
            number(sizes[3])
            pieces.append((number(sizes[0]), number(sizes[1])))
        if pieces and method < 2:
            offset, length = pieces[0]
            found[item] = (start + offset + (idat if method else 0), length or ITEM_BYTES)
    return found
