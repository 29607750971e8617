"""Opens an image from a file or from bytes, and detects its format."""

import io
import re
from pathlib import Path
from typing import BinaryIO

from esrgan_jax.images.foreign import foreign
from esrgan_jax.images.formats.isobmff import brands

HEVC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def kind_of(source: Path | bytes) -> tuple[str, bytes]:
    """Returns the format of an image file (see `sniff`) and its first bytes.

    Raises:
        ValueError: It is not an image, or of a format that is not supported.
        OSError: It is missing or cannot be read.
    """
    if isinstance(source, Path) and not source.is_file():
        raise OSError("it is a folder" if source.is_dir() else "no such file")
    with open_binary(source) as file:
        head = file.read(4096)
    if wrong := foreign(head):
        raise ValueError(wrong)
    kind = sniff(head)
    if kind is None:
        raise ValueError(
            "not a known format; known are PNG, JPEG, WebP, TIFF, HEIF, AVIF, GIF, BMP, PBM, PGM "
            "and PPM"
        )
    return kind, head


def sniff(head: bytes) -> str | None:
    """Detects the format by the first bytes: a name of LOADERS, "heic", "bmp", "pnm" or None."""
    for kind, magics in {
        "png": (b"\x89PNG\r\n\x1a\n",),
        "jpeg": (b"\xff\xd8\xff",),
        "gif": (b"GIF87a", b"GIF89a"),
        "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "bmp": (b"BM",),
    }.items():
        if head.startswith(magics):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if named := brands(head):
        hevc, av1 = b"hvcC" in head, b"av1C" in head
        # The brands may name HEIF only, and the boxes may come after the first bytes.
        return "heic" if (hevc if hevc != av1 else named & HEVC_BRANDS) else "heif"
    return "pnm" if re.match(rb"P[1-6][\s#]", head) else None


def open_binary(source: Path | bytes) -> BinaryIO:
    """Opens a file for reading, or bytes as if they were one."""
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
