"""Memory-mapped files: reads only what is used, never more than the file's size allows.

What a file says about itself may be a lie. Readers of this package take tensors as views of the
map, and everything else through a `Stream`, which bounds the memory that can come of it.
"""

import mmap
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

MEBIBYTE = 2**20
LONGEST_LINE = 1024  # of names of globals, the only lines in a pickle
# The most memory that n bytes can become: an empty mapping, or four bytes for a character.
OBJECT_BYTES, CHARACTER_BYTES = 128, 4
LOCAL_HEADER = struct.Struct("<4s22xHH")
# What zipfile, struct, pickletools, Unicode and NumPy raise for malformed bytes.
MALFORMED = (
    *(ValueError, TypeError, LookupError, EOFError, OverflowError),
    *(struct.error, zipfile.BadZipFile, NotImplementedError),
)


def map_file(path: Path) -> mmap.mmap:
    """Maps a file read-only. ValueError if it is empty, OSError if it cannot be read."""
    if not path.stat().st_size:
        raise ValueError("it is empty")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Stream:
    """A part of a mapped file to be parsed, with `read`, `readline`, `tell` and `seek`.

    Raises ValueError once what was read could have become more than 32 MiB and the file's own size
    in memory, or for a single piece of more than 1 MiB and a 64th of it. A 23-block generator of
    67 MB needs 5 MB of this.
    """

    def __init__(self, data: mmap.mmap, start: int = 0, end: int | None = None):
        self.data, self.start, self.position = data, start, start
        self.end = len(data) if end is None else end
        self.longest = MEBIBYTE + len(data) // 64
        self.left = 32 * MEBIBYTE + len(data)

    def read(self, size: int = -1) -> bytes:
        rest = self.end - self.position
        size = rest if size < 0 else min(size, rest)
        # Up to 8 bytes are arguments of an object that an earlier byte already paid for.
        self.left -= size if 1 < size <= 8 else OBJECT_BYTES + CHARACTER_BYTES * size
        if size > self.longest or self.left < 0:
            raise ValueError("the description of its tensors is far too large for them")
        self.position += size
        return self.data[self.position - size : self.position]

    def readline(self) -> bytes:
        limit = min(self.end, self.position + LONGEST_LINE)
        newline = self.data.find(b"\n", self.position, limit)
        return self.read((newline + 1 if newline >= 0 else limit) - self.position)

    def tell(self) -> int:
        return self.position - self.start

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (self.start, self.position, self.end)[whence]
        if not self.start <= base + offset <= self.end:
            raise OSError("a part of it is outside the file")  # as files do, for zipfile
        self.position = base + offset
        return self.tell()


class Member(NamedTuple):
    """An uncompressed member of a zip archive that starts at the byte `start`."""

    start: int
    size: int


def open_zip(data: mmap.mmap) -> zipfile.ZipFile:
    """Opens the zip archive in a mapped file.

    Raises:
        ValueError: Its directory, which is at the end, is missing, or its members overlap: a
            few bytes can unpack to any number then.
        struct.error, …: It is malformed.
    """
    try:
        archive = zipfile.ZipFile(Stream(data))  # pyright: ignore[reportArgumentType]
    except zipfile.BadZipFile as error:
        raise ValueError(f"its zip archive is truncated or damaged ({error})") from error
    if sum(member.compress_size for member in archive.infolist()) > len(data):
        raise ValueError("the members of its zip archive overlap or reach beyond its end")
    return archive


def find_member(data: mmap.mmap, member: zipfile.ZipInfo) -> Member:
    """Returns the position of an uncompressed member; ValueError if it is outside the file.

    Its checksum is not looked at: that would read it, and torch can leave it void.
    """
    name = f"{member.filename:.80}"
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f"{name} is compressed or encrypted")
    start, size = member.header_offset, member.file_size
    signature, name_size, extra_size = LOCAL_HEADER.unpack(data[start : start + LOCAL_HEADER.size])
    start += LOCAL_HEADER.size + name_size + extra_size
    if signature != b"PK\x03\x04" or start + size > len(data):
        raise ValueError(f"{name} should have {size} bytes, beyond the end of the file")
    return Member(start, size)
