"""Whether a GIF is all there: its decoder takes the frames it finds, and asks for no end."""

from typing import BinaryIO

EXTENSION, FRAME, END = 0x21, 0x2C, 0x3B


def require_whole_gif(file: BinaryIO) -> None:
    """Walks through the blocks of an open GIF.

    Raises:
        ValueError: The file ends within one of them.
    """
    screen = _exactly(file, 13)
    _exactly(file, _palette_bytes(screen[10]))
    # The byte at the end is missing in some files of old that are otherwise whole.
    while (kind := file.read(1)) and kind[0] != END:
        if kind[0] == FRAME:
            _exactly(file, _palette_bytes(_exactly(file, 9)[8]))
        elif kind[0] != EXTENSION:
            return  # what comes after is for the decoder to judge
        _exactly(file, 1)  # the label of an extension, the first code size of a frame
        while size := _exactly(file, 1)[0]:
            _exactly(file, size)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it is truncated")
    return data
