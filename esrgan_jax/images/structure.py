"""Finds the main image of a file and what else it contains."""

import mmap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

from esrgan_jax.images.foreign import SAVE
from esrgan_jax.images.formats.gif import read_comments
from esrgan_jax.images.formats.heif_structure import LIGHT_LEVELS, read_heif_structure
from esrgan_jax.images.formats.jpeg_structure import further_parts, read_segments
from esrgan_jax.images.formats.tiff_structure import choose_page
from esrgan_jax.images.metadata.png_text import Text, blobs_of, chunks, plain_text, read_text

MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
CREDENTIALS = "content credentials (C2PA)"
PLURAL = (CREDENTIALS, "mattes", LIGHT_LEVELS)
PNG_PARTS = {
    CREDENTIALS: (b"caBX",),
    LIGHT_LEVELS: (b"mDCV", b"cLLI", b"mDCv", b"cLLi"),  # final and draft names
}
# Rare codings of images in HEIF, for which no decoder is installed.
RARE_CODINGS = {
    b"jpeg": "JPEG",
    b"j2k1": "JPEG 2000",
    b"avc1": "H.264",
    b"vvc1": "H.266 (VVC)",
    b"evc1": "MPEG-5 EVC",
    b"lhv1": "layers of HEVC",
    b"jxl ": "JPEG XL",
}


class Structure(NamedTuple):
    """What is known of a file before its pixels are read.

    Attributes:
        options: Options of libvips' loader that select the image.
        notes: What is left out, each a sentence without a full stop.
        texts: Texts outside EXIF and XMP: PNG text chunks and comments.
        blobs: Metadata found in texts, as libvips' fields: {"iptc-data": …}.
        orientation: EXIF's number for the orientation of a HEIF's image; None to use that of its
            EXIF.
    """

    options: Mapping[str, int] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    texts: tuple[Text, ...] = ()
    blobs: Mapping[str, bytes] = MappingProxyType({})
    orientation: int | None = 1


def examined(source: Path | bytes, file: BinaryIO, kind: str) -> Structure:
    """Finds the main image of an open file, and what else is in it.

    Args:
        source: The file or its content.
        file: It, opened.
        kind: Its format, as `sniff` returns it.

    Raises:
        ValueError: No image in it can be the main one.
    """
    match kind:
        case "tiff":
            pages = choose_page(file)
            return Structure(pages.options, pages.notes)
        case "png":
            found = list(chunks(file))
            texts = tuple(read_text(file, found))
            animated = any(chunk.kind == b"acTL" for chunk in found)
            notes = ("only the first frame of the animated PNG is used",) if animated else ()
            kinds = {chunk.kind for chunk in found}
            notes += _dropped([part for part, of in PNG_PARTS.items() if kinds & set(of)])
            return Structure({}, notes, texts, blobs_of(texts))
        case "jpeg":
            return _jpeg(source)
        case "heic" | "heif":
            return _heif(file)
        case "gif":
            return Structure(texts=_comments(read_comments(file)))
        case _:
            return Structure()


def _jpeg(source: Path | bytes) -> Structure:
    if isinstance(source, bytes):
        return _jpeg_of(source)
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _jpeg_of(data)


def _jpeg_of(data: bytes | mmap.mmap) -> Structure:
    segments = read_segments(data)
    parts, images = further_parts(data, segments)
    application = [(number, content) for number, _, content in segments.application]
    if any(number == 11 and b"c2pa" in content for number, content in application):
        parts.append(CREDENTIALS)
    if any(content.startswith(MORE_XMP) for _, content in application) and "depth map" not in parts:
        depth = any(
            content.startswith(MORE_XMP) and b"GDepth" in content for _, content in application
        )
        parts.append("depth map" if depth else "extended XMP")
    notes = (f"only the first of the {images} images in the file is used",) if images > 1 else ()
    return Structure({}, notes + _dropped(parts), _comments(segments.comments))


def _comments(found: list[bytes]) -> tuple[Text, ...]:
    comments = [plain_text(comment).strip("\0") for comment in found]
    # A comment of this program describes the image it was made from.
    return tuple(Text("Comment", c) for c in comments if c and not c.startswith("esrgan_jax "))


def _heif(file: BinaryIO) -> Structure:
    found = read_heif_structure(file)
    if found.coding in RARE_CODINGS:
        what = RARE_CODINGS[found.coding]
        raise ValueError(f"its image is coded as {what}, which is not supported in HEIF: {SAVE}")
    notes = _dropped(found.parts)
    if found.frames > 1:
        note = f"only the main image of the sequence of {found.frames} is used"
        notes = (note, *notes)
    if found.aspect is not None:
        across, down = found.aspect
        notes += (
            f"its pixels are {across}:{down} and not square, which the result does not record",
        )
    return Structure({}, notes, orientation=found.orientation)


def _dropped(parts: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Returns a note on the parts of the file that are not in the result, if there are any."""
    parts = tuple(dict.fromkeys(parts))
    if not parts:
        return ()
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    are = "are" if parts[1:] or parts[0] in PLURAL else "is"
    return (f"its {listed} {are} dropped; the image itself is upscaled",)
