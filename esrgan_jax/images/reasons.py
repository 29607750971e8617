"""Turns the errors of image libraries into messages for users."""

import re
import struct
from collections.abc import Generator
from contextlib import contextmanager

import pyvips
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.vips import reason

READ_ERRORS = (
    *(pyvips.Error, OSError, ValueError, RuntimeError, EOFError, SyntaxError, struct.error),
    *(Image.DecompressionBombError, OverflowError, MemoryError),
)
CUT_OFF = "it is truncated or damaged"
UNSUPPORTED = "it is damaged, or of a kind that is not supported"
NO_MEMORY = "it takes more memory than is available"
# Patterns of the libraries' messages and what they mean; the first match counts.
MEANINGS = (
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
        "it contains no still image: it is truncated, or a video or an animation",
    ),
    (r"emory allocation|out of memory|[Ss]ecurity limit", NO_MEMORY),
    (
        r"read error|unable to call pngload|premature end|unable to parse image|Invalid data found|"
        r"unable to read pixels|unable to open source for input|Invalid input|Invalid progressive|"
        r"Bogus|Corrupt|contains no image|Failed to read directory|directory is missing|"
        r"required field|table|component ID|[Tt]runcated File|image file is truncated|"
        r"not identified by this driver|Invalid frame data|end of file|load error|unpack|"
        r"bad (image )?dimensions|greater than maximum",
        CUT_OFF,
    ),
)


def why_unreadable(error: BaseException) -> str:
    """Returns why an image cannot be read; messages of this package are returned unchanged."""
    message = " ".join(reason(error).split())
    if message.startswith(CUT_OFF):
        return message
    for pattern, meaning in MEANINGS:
        if re.search(pattern, message):
            return f"{meaning} ({message})"
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, struct.error | EOFError):
        return f"{CUT_OFF} ({message})"
    if isinstance(error, pyvips.Error | RuntimeError | SyntaxError):
        return f"{UNSUPPORTED} ({message})"
    return message


@contextmanager
def explained(name: str) -> Generator[None]:
    """Turns what the libraries raise on reading into an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except READ_ERRORS as error:
        raise InputError(f"{name}: cannot be read as an image: {why_unreadable(error)}") from error
