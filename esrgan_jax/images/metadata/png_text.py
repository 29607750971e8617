"""Reads and writes text chunks of PNG."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from esrgan_jax.images.metadata.photoshop import PHOTOSHOP, iptc_for

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST_TEXT = 1 << 26  # bytes; a small chunk may unpack to gigabytes
RAW_PROFILE = "Raw profile type "
XMP_KEYWORD = "XML:com.adobe.xmp"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")


class Text(NamedTuple):
    """A text with its keyword, such as "Title" or "parameters".

    Attributes:
        chunk: The PNG chunk that it was read from, to be copied with its language and encoding;
            empty if it was not read from a PNG.
    """

    keyword: str
    text: str
    chunk: bytes = b""


class Chunk(NamedTuple):
    """A chunk of a PNG: its kind, and the offset and size of its content."""

    kind: bytes
    start: int
    size: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """Yields the chunks of an open PNG, up to a damaged one, which the decoder reports."""
    at = len(SIGNATURE)
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head)
        yield Chunk(kind, at + 8, size)
        at += size + 12


def read_text(file: BinaryIO, found: list[Chunk]) -> list[Text]:
    """Reads the texts among the chunks of an open PNG, except XMP and damaged ones."""
    texts = []
    for kind, start, size in found:
        if kind in TEXTS and size <= LONGEST_TEXT:
            file.seek(start)
            with suppress(ValueError, IndexError, zlib.error):
                texts.append(_decoded(kind, file.read(size)))
    return [text for text in texts if text.keyword != XMP_KEYWORD]


def _decoded(kind: bytes, data: bytes) -> Text:
    keyword, _, rest = data.partition(b"\0")
    if kind == b"iTXt":
        packed, rest = rest[0], rest[2:].split(b"\0", 2)[2]
        text = (_unpacked(rest) if packed else rest).decode()
    else:
        text = plain_text(_unpacked(rest[1:]) if kind == b"zTXt" else rest)
    return Text(keyword.decode("latin-1"), text, _chunk(kind, data))


def plain_text(data: bytes) -> str:
    """Decodes text of unknown encoding: UTF-8 if it is valid, else Latin-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _unpacked(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, LONGEST_TEXT)
    if unpacker.unconsumed_tail:
        raise ValueError("a text of more than 64 MiB")
    return text


def blobs_of(texts: Iterable[Text]) -> dict[str, bytes]:
    """Returns metadata that ImageMagick wrote as hexadecimal texts: {libvips' field: bytes}."""
    blobs = {}
    for keyword, text, _ in texts:
        kind = keyword.removeprefix(RAW_PROFILE)
        if kind == keyword:
            continue
        with suppress(ValueError):  # lines: empty, the kind, the length, then digits
            data = bytes.fromhex("".join(text.split("\n", 3)[3].split()))
            if kind in ("exif", "APP1") and data.startswith(b"Exif\0\0"):
                blobs["exif-data"] = data
            elif kind in ("iptc", "8bim"):
                blobs["iptc-data"] = PHOTOSHOP * data.startswith(b"8BIM") + data
            elif kind == "xmp":
                blobs["xmp-data"] = data
    return blobs


def iptc_text(data: bytes) -> Text:
    """Returns IPTC as a hexadecimal text like ImageMagick's, as PNG has no chunk for it."""
    digits = iptc_for("jpeg", data).removeprefix(PHOTOSHOP).hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    text = "\n".join(["", "iptc", f"{len(digits) // 2:8}", *lines, ""])
    return Text(f"{RAW_PROFILE}iptc", text)


def text_chunk(text: Text) -> bytes:
    """Returns the original chunk of a text; if there is none, a tEXt (ASCII) or iTXt chunk."""
    if text.chunk:
        return text.chunk
    keyword = text.keyword.encode("latin-1", "replace")[:79] + b"\0"
    if text.text.isascii():
        return _chunk(b"tEXt", keyword + text.text.encode())
    return _chunk(b"iTXt", keyword + b"\0\0\0\0" + text.text.encode())


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
