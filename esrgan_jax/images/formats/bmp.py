"""Reads the colour profile of a BMP, which Pillow does not."""

import struct
from typing import BinaryIO

HEADER = 14  # bytes of the file's header; the next one says where the profile is, counted from here


def bmp_profile(file: BinaryIO) -> bytes | None:
    """Returns the ICC profile in a BMP of version 5 (BITMAPV5HEADER), if it has one."""
    file.seek(HEADER)
    header = file.read(124)
    if len(header) < 124 or header[:4] != b"\x7c\0\0\0" or header[56:60] != b"DEBM":
        return None
    start, size = struct.unpack_from("<II", header, 112)
    file.seek(HEADER + start)
    profile = file.read(size)
    return profile if size and len(profile) == size else None
