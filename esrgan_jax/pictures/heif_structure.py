"""What a HEIF or AVIF file holds beside the picture that it shows."""

import struct
from typing import BinaryIO, NamedTuple

from esrgan_jax.pictures.isobmff import Box, boxes, content, inner

LYING = (1, 8, 3, 6)  # EXIF's orientation for each number of quarter turns against the clock
C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
# What the type of an auxiliary picture ends in or contains (ISO 23008-12, Apple's own names).
AUXILIARY = {
    "hdrgainmap": "gain map (HDR)",
    "auxid:2": "depth map",
    "auxiliary:depth": "depth map",
    "disparity": "depth map",
    "matte": "mattes",
}


class Beside(NamedTuple):
    """What is there beside the picture.

    Attributes:
        parts: Such as "gain map (HDR)", "depth map", "video", in the order found, each once.
        frames: Of an animation or a burst; 0 where it is none.
        aspect: (across, down) of a pixel that is not square.
        lying: How the picture lies before it is shown, as EXIF's orientation; None where it is
            mirrored, too, which EXIF has to tell.
    """

    parts: tuple[str, ...] = ()
    frames: int = 0
    aspect: tuple[int, int] | None = None
    lying: int | None = 1


def look_beside(file: BinaryIO) -> Beside:
    """Looks through the boxes of an open file; what is damaged is left to the decoder."""
    parts, frames, own = [], 0, {}
    try:
        for box in boxes(file):
            if box.kind == b"mpvd":
                parts.append("video")
            elif box.kind == b"uuid" and content(file, box).startswith(C2PA):
                parts.append("content credentials (C2PA)")
            elif box.kind == b"moov":
                frames = _samples(file, box)
            elif box.kind == b"meta":
                found, own = _items(file, box)
                parts += found
    except (struct.error, ValueError, IndexError):
        pass
    across, down = struct.unpack(">II", own.get(b"pasp", b"")[:8].ljust(8, b"\0"))
    aspect = (across, down) if across != down else None
    lying = None if b"imir" in own else LYING[own.get(b"irot", b"\0")[0] & 3]
    return Beside(tuple(dict.fromkeys(parts)), frames, aspect, lying)


def _samples(file: BinaryIO, moov: Box) -> int:
    """The most pictures of a track of pictures."""
    most = 0
    for trak in inner(file, moov):
        if trak.kind != b"trak":
            continue
        tables = {b"hdlr": b"", b"stsz": b""}
        waiting = inner(file, trak)
        while waiting:
            box = waiting.pop()
            if box.kind in (b"mdia", b"minf", b"stbl"):
                waiting += inner(file, box)
            elif box.kind in tables:
                tables[box.kind] = content(file, box)
        if tables[b"hdlr"][8:12] == b"pict" and len(tables[b"stsz"]) >= 12:
            most = max(most, int.from_bytes(tables[b"stsz"][8:12]))
    return most


def _items(file: BinaryIO, meta: Box) -> tuple[list[str], dict[bytes, bytes]]:
    """The auxiliary pictures, and the properties of the shown one: {kind: content}."""
    parts, primary, properties, of_item = [], 0, [], {}
    for box in inner(file, meta):
        if box.kind == b"pitm":
            data = content(file, box)
            primary = int.from_bytes(data[4:6] if data[0] == 0 else data[4:8])
        elif box.kind == b"iinf" and any(kind == b"tmap" for kind in _kinds(file, box)):
            parts.append(AUXILIARY["hdrgainmap"])
        elif box.kind == b"iprp":
            for part in inner(file, box):
                if part.kind == b"ipco":
                    properties = [(p.kind, content(file, p)) for p in inner(file, part)]
                elif part.kind == b"ipma":
                    of_item |= _associations(content(file, part))
    for kind, data in properties:
        if kind == b"auxC":
            name = data[4:].partition(b"\0")[0].decode("latin-1").lower()
            parts += [what for key, what in AUXILIARY.items() if name.endswith(key)]
    numbers = [number for number in of_item.get(primary, []) if 0 < number <= len(properties)]
    return parts, dict(properties[number - 1] for number in numbers)


def _kinds(file: BinaryIO, iinf: Box) -> list[bytes]:
    """The kinds of the items that are listed."""
    version = content(file, iinf)[0]
    start = iinf.start + (6 if version == 0 else 8)
    entries = [content(file, box) for box in boxes(file, start, iinf.end) if box.kind == b"infe"]
    return [data[10:14] if data[0] == 3 else data[8:12] for data in entries]


def _associations(data: bytes) -> dict[int, list[int]]:
    """ipma: {item: numbers of its properties, from 1}."""
    version, wide = data[0], data[3] & 1
    (count,), at, found = struct.unpack_from(">I", data, 4), 8, {}
    for _ in range(count):
        item = int.from_bytes(data[at : at + (2 if version < 1 else 4)])
        at += 2 if version < 1 else 4
        number, at, size = data[at], at + 1, 2 if wide else 1
        mask = 0x7FFF if wide else 0x7F
        places = range(at, at + number * size, size)
        found[item] = [int.from_bytes(data[place : place + size]) & mask for place in places]
        at += number * size
    return found
