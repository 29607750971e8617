"""What a picture file holds beside the picture that is read, and which of its pictures that is."""

import mmap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from esrgan_jax.pictures.heif_structure import look_beside
from esrgan_jax.pictures.jpeg_structure import parts_beside, read_segments
from esrgan_jax.pictures.png_text import Text, chunks, plain_text, read_text
from esrgan_jax.pictures.tiff_structure import choose_page


class Structure(NamedTuple):
    """What is known of a file before its pixels are read.

    Attributes:
        options: What libvips' loader is told to find the picture.
        notes: What is left out, each a sentence without its stop.
        texts: Text beside EXIF and XMP: of PNG, and comments.
    """

    options: Mapping[str, int] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    texts: tuple[Text, ...] = ()


def examined(source: Path | bytes, file: BinaryIO, kind: str) -> Structure:
    """Looks through an open file of a kind that `sniff` names.

    Raises:
        ValueError: There is no picture in it that could be taken for the one meant.
    """
    match kind:
        case "tiff":
            pages = choose_page(file)
            return Structure(pages.options, pages.notes)
        case "png":
            found = list(chunks(file))
            texts = tuple(read_text(file, found))
            animated = any(chunk.kind == b"acTL" for chunk in found)
            note = "of the animated PNG only the first frame is taken"
            return Structure({}, (note,) if animated else (), texts)
        case "jpeg":
            return _jpeg(source)
        case "heic" | "heif":
            return _heif(file)
    return Structure()


def _jpeg(source: Path | bytes) -> Structure:
    if isinstance(source, bytes):
        return _jpeg_of(source)
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _jpeg_of(data)


def _jpeg_of(data: bytes | mmap.mmap) -> Structure:
    segments = read_segments(data)
    parts, alike = parts_beside(data, segments)
    notes = (f"of the {alike} pictures in the file only the first is taken",) if alike > 1 else ()
    comments = [plain_text(comment.rstrip(b"\0")) for comment in segments.comments]
    return Structure({}, notes + _dropped(parts), tuple(Text("Comment", c) for c in comments if c))


def _heif(file: BinaryIO) -> Structure:
    beside = look_beside(file)
    notes = _dropped(beside.parts)
    if beside.frames > 1:
        note = f"of the sequence of {beside.frames} pictures only the main one is taken"
        notes = (note, *notes)
    if beside.aspect is not None:
        across, down = beside.aspect
        notes += (f"its pixels are {across}:{down} and not square, which the result does not say",)
    return Structure({}, notes)


def _dropped(parts: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """One sentence for all that comes with the picture and is not in the result."""
    parts = tuple(dict.fromkeys(parts))
    if not parts:
        return ()
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    are = "are" if parts[1:] or parts[0].endswith("s") else "is"
    return (f"its {listed} {are} dropped; the picture itself is upscaled",)
