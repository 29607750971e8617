"""Turns errors of image libraries into plain sentences."""

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pyvips
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.vips import reason

UNREADABLE = (
    *(pyvips.Error, OSError, ValueError, RuntimeError, EOFError, SyntaxError, struct.error),
    *(Image.DecompressionBombError, OverflowError, MemoryError),
)
DAMAGED = "it is truncated or damaged"
UNKNOWN = "it is damaged, or of a kind that is not supported"
# What libraries say -> what it means. The first that fits counts.
WORDS = (
    (r"marker type 0xf7", "it is a JPEG-LS, which is not supported; convert it to PNG or TIFF"),
    (
        r"JPEG process|Fractional sampling|DNL not supported",
        "it is of a rare kind of JPEG, which is not supported; convert it to PNG or TIFF",
    ),
    (
        r"Unsupported BMP|unsupported BMP",
        "it is of a rare kind of BMP, which is not supported; convert it to PNG",
    ),
    (
        r"No 'meta' box(?!:)|any supported brands|invalid primary item",
        "it holds no still image: it is truncated, or a video or an animation",
    ),
    (r"emory allocation|out of memory|[Ss]ecurity limit", "it takes more memory than there is"),
    (
        r"read error|unable to call pngload|premature end|unable to parse image|Invalid data found|"
        r"unable to read pixels|unable to open source for input|Invalid input|Invalid progressive|"
        r"Bogus|Corrupt|contains no image|Failed to read directory|directory is missing|"
        r"required field|table|component ID|[Tt]runcated File|image file is truncated|"
        r"not identified by this driver|Invalid frame data|end of file|load error|unpack|"
        r"bad (image )?dimensions|greater than maximum",
        DAMAGED,
    ),
)


def why_unreadable(error: BaseException) -> str:
    """What to tell of an error on reading an image; own sentences stay as they are."""
    said = " ".join(reason(error).split())
    if said.startswith(DAMAGED):
        return said
    for pattern, words in WORDS:
        if re.search(pattern, said):
            return f"{words} ({said})"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, struct.error | EOFError):
        return f"{DAMAGED} ({said})"
    if isinstance(error, pyvips.Error | RuntimeError | SyntaxError):
        return f"{UNKNOWN} ({said})"
    return said


@contextmanager
def explained(name: str) -> Iterator[None]:
    """What the libraries raise on reading becomes an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{name}: cannot be read as an image: {why_unreadable(error)}") from error
