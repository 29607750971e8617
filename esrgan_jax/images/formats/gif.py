"""Checks that a GIF is complete, and reads and writes its comments."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

EXTENSION, FRAME, TRAILER = 0x21, 0x2C, 0x3B
COMMENT_LABEL = 0xFE


def require_whole_gif(file: BinaryIO) -> None:
    """Checks that an open GIF has all of its blocks; decoders accept a truncated one.

    Raises:
        ValueError: The file ends within a block.
    """
    for _ in _blocks(file):
        pass


def read_comments(file: BinaryIO) -> list[bytes]:
    """Returns all comments of an open GIF.

    Raises:
        ValueError: The file is truncated.
    """
    return [data for kind, data in _blocks(file) if kind == COMMENT_LABEL]


def read_comment(path: Path) -> str:
    """Returns the last comment of a file, or "" if it has none.

    Raises:
        ValueError: The file is truncated.
    """
    with path.open("rb") as file:
        comments = read_comments(file)
    return comments[-1].decode("latin-1") if comments else ""


def add_comment(path: Path, text: str) -> None:
    """Appends a comment to a finished file."""
    data = text.encode()
    parts = [data[i : i + 255] for i in range(0, len(data), 255)]
    blocks = b"".join(bytes([len(part)]) + part for part in parts)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        if file.read(1)[0] == TRAILER:
            file.seek(-1, 2)
        file.write(bytes([EXTENSION, COMMENT_LABEL]) + blocks + bytes([0, TRAILER]))


def _blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields (label, data) of each extension and (FRAME, b"") of each frame.

    Only comments have data.
    """
    screen = _exactly(file, 13)
    _exactly(file, _palette_bytes(screen[10]))
    # Some old files lack the trailer but are complete otherwise.
    while (kind := file.read(1)) and kind[0] != TRAILER:
        if kind[0] == FRAME:
            _exactly(file, _palette_bytes(_exactly(file, 9)[8]))
        elif kind[0] != EXTENSION:
            return  # the decoder reports the damage
        first = _exactly(file, 1)[0]  # the label of an extension, the first code size of a frame
        label = first if kind[0] == EXTENSION else FRAME
        data = []
        while size := _exactly(file, 1)[0]:
            part = _exactly(file, size)
            if label == COMMENT_LABEL:
                data.append(part)
        yield label, b"".join(data)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it is truncated")
    return data
