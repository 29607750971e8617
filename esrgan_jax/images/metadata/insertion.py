"""Inserts metadata into a finished file where libvips cannot write it."""

from collections.abc import Iterable
from pathlib import Path

from esrgan_jax.images.metadata.png_text import SIGNATURE, Text, text_chunk

BLOCK_BYTES = 1 << 24  # moved at a time
PNG_HEADER_BYTES = len(SIGNATURE) + 25  # the signature and IHDR; any chunk may follow
LONGEST_SEGMENT = 65_533  # bytes of content in a segment of a JPEG


def insert(path: Path, at: int, data: bytes) -> None:
    """Inserts bytes at the offset `at` of a file; the rest is moved block by block."""
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        while end > at:
            start = max(at, end - BLOCK_BYTES)
            file.seek(start)
            moved = file.read(end - start)
            file.seek(start + len(data))
            file.write(moved)
            end = start
        file.seek(at)
        file.write(data)


def insert_png_text(path: Path, texts: Iterable[Text]) -> None:
    """Inserts texts into a PNG before its pixels, where every program finds them."""
    if data := b"".join(map(text_chunk, texts)):
        insert(path, PNG_HEADER_BYTES, data)


def insert_jpeg_comments(path: Path, comments: Iterable[str]) -> None:
    """Inserts comments into a JPEG after its APP segments; long ones are split."""
    data = b""
    for comment in comments:
        text = comment.encode()
        for at in range(0, len(text), LONGEST_SEGMENT):
            part = text[at : at + LONGEST_SEGMENT]
            data += b"\xff\xfe" + (len(part) + 2).to_bytes(2) + part
    with path.open("rb") as file:
        at = 2
        while True:  # libvips writes the segments without padding
            file.seek(at)
            head = file.read(4)
            if head[0] != 0xFF or not 0xE0 <= head[1] <= 0xEF:
                break
            at += 2 + int.from_bytes(head[2:])
    if data:
        insert(path, at, data)
