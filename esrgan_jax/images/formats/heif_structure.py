"""Finds what a HEIF or AVIF file contains in addition to its primary image."""

import struct
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from esrgan_jax.images.formats.heif_items import Items, read_heif_items
from esrgan_jax.images.formats.isobmff import Box, boxes, content, inner

ORIENTATIONS = (1, 8, 3, 6)  # of EXIF, by the number of quarter turns anticlockwise
C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
# Parts, by the end of the type of an auxiliary image (ISO 23008-12 and Apple's names).
AUXILIARY = {
    "hdrgainmap": "gain map (HDR)",
    "auxid:2": "depth map",
    "auxiliary:depth": "depth map",
    "disparity": "depth map",
    "matte": "mattes",
}
LIGHT_LEVELS = "HDR light levels"  # of the mastering display and of the brightest pixels
LIGHT = (b"mdcv", b"clli", b"cclv", b"amve")


class HeifStructure(NamedTuple):
    """What a file contains in addition to its primary image, and how the image is stored.

    Attributes:
        parts: Names such as "gain map (HDR)", "depth map", "video", in the order found, each once.
        frames: Number of frames of an animation or a burst; 0 without one.
        aspect: (width, height) of a pixel; None if it is square.
        orientation: The EXIF orientation that the file's own rotation amounts to; None if the
            image is also mirrored: then the EXIF block has to be used.
        coding: The kind of the primary image or of its first tile, such as b"av01".
    """

    parts: tuple[str, ...] = ()
    frames: int = 0
    aspect: tuple[int, int] | None = None
    orientation: int | None = 1
    coding: bytes = b""


def read_heif_structure(file: BinaryIO) -> HeifStructure:
    """Reads the structure of an open file; stops at a damaged box, which the decoder reports."""
    parts, frames, own, coding = [], 0, {}, b""
    with suppress(struct.error, IndexError):
        for box in boxes(file):
            if box.kind == b"mpvd":
                parts.append("video")
            elif box.kind == b"uuid" and content(file, box).startswith(C2PA):
                parts.append("content credentials (C2PA)")
            elif box.kind == b"moov":
                frames = _samples(file, box)
        items = read_heif_items(file)
        parts += _auxiliary(items)
        own, coded = items.of(items.primary), items.of(items.coded)
        coding = items.kinds.get(items.coded, b"")
        if any(kind in own or kind in coded for kind in LIGHT):
            parts.append(LIGHT_LEVELS)
    across, down = struct.unpack(">II", own.get(b"pasp", b"")[:8].ljust(8, b"\0"))
    aspect = (across, down) if across != down else None
    orientation = None if b"imir" in own else ORIENTATIONS[own.get(b"irot", b"\0")[0] & 3]
    return HeifStructure(tuple(dict.fromkeys(parts)), frames, aspect, orientation, coding)


def _auxiliary(items: Items) -> list[str]:
    """Returns the names of the auxiliary images."""
    parts = [AUXILIARY["hdrgainmap"]] if b"tmap" in items.kinds.values() else []
    for kind, data in items.properties:
        if kind == b"auxC":
            name = data[4:].partition(b"\0")[0].decode("latin-1").lower()
            parts += [what for key, what in AUXILIARY.items() if name.endswith(key)]
    return parts


def _samples(file: BinaryIO, moov: Box) -> int:
    """Returns the number of images in the longest image track."""
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
