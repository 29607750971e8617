"""Reads and filters Photoshop resources, which contain IPTC in a JPEG."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

PHOTOSHOP = b"Photoshop 3.0\0"
IPTC_RESOURCE = 0x0404
# IPTC, the copyright flag and URL, the checksum of IPTC, and paths, which are in fractions of the
# size. The others, such as thumbnails, guides and slices, are not true of an upscaled image.
KEPT_RESOURCES = {IPTC_RESOURCE, 0x040A, 0x040B, 0x0425, *range(2000, 3000)}


class Resource(NamedTuple):
    """A resource: its number, its content, and all of its bytes with the header."""

    number: int
    content: bytes
    whole: bytes


def resources(data: bytes) -> Iterator[Resource]:
    """Yields the resources after the PHOTOSHOP prefix; stops at a damaged one."""
    at = len(PHOTOSHOP)
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        start = at
        (number,) = struct.unpack_from(">H", data, at + 4)
        at += 6 + (data[at + 6] + 2) // 2 * 2  # a name, padded to an even length
        (size,) = struct.unpack_from(">I", data.ljust(at + 4, b"\0"), at)
        end = at + 4 + size + size % 2
        if end > len(data) + 1:
            return
        yield Resource(number, data[at + 4 : at + 4 + size], data[start:end].ljust(end - start))
        at = end


def iptc_of_result(data: bytes) -> bytes:
    """Returns IPTC or Photoshop resources without what is not true of an upscaled image."""
    if not data.startswith(PHOTOSHOP):
        return data
    kept = b"".join(r.whole for r in resources(data) if r.number in KEPT_RESOURCES)
    return PHOTOSHOP + kept if kept else b""


def iptc_for(saver: str, data: bytes) -> bytes:
    """Converts IPTC for a format: in Photoshop resources for JPEG, plain for TIFF."""
    if saver == "jpeg" and not data.startswith(PHOTOSHOP):
        header = struct.pack(">4sHHI", b"8BIM", IPTC_RESOURCE, 0, len(data))
        return PHOTOSHOP + header + data + b"\0" * (len(data) % 2)
    if saver == "tiff" and data.startswith(PHOTOSHOP):
        return next((r.content for r in resources(data) if r.number == IPTC_RESOURCE), b"")
    return data
