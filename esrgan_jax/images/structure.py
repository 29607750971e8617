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
    LIGHT_LEVELS: (b"mDCV", b"cLLI", b"mDCv", b"cLLi"),  # as they are, and as first proposed
}
# Codings of images in HEIF that are seldom met, and for which there is no decoder here.
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
        notes: What is left out, each a sentence without its stop.
        texts: Text beside EXIF and XMP: of PNG, and comments.
        blobs: What is in a place of its own, as libvips' fields: {"iptc-data": …}.
        orientation: The orientation of a HEIF's image as EXIF numbers it; None to take EXIF's.
    """

    options: Mapping[str, int] = MappingProxyType({})
    notes: tuple[str, ...] = ()
    texts: tuple[Text, ...] = ()
    blobs: Mapping[str, bytes] = MappingProxyType({})
    orientation: int | None = 1


def examined(source: Path | bytes, file: BinaryIO, kind: str) -> Structure:
    """Looks through an open file of a kind that `sniff` names.

    Raises:
        ValueError: There is no image in it that could be taken for the one meant.
    """
    match kind:
        case "tiff":
            pages = choose_page(file)
            return Structure(pages.options, pages.notes)
        case "png":
            found = list(chunks(file))
            texts = tuple(read_text(file, found))
            animated = any(chunk.kind == b"acTL" for chunk in found)
            notes = ("of the animated PNG only the first frame is taken",) if animated else ()
            there = {chunk.kind for chunk in found}
            notes += _dropped([part for part, of in PNG_PARTS.items() if there & set(of)])
            return Structure({}, notes, texts, blobs_of(texts))
        case "jpeg":
            return _jpeg(source)
        case "heic" | "heif":
            return _heif(file)
        case "gif":
            return Structure(texts=_comments(read_comments(file)))
    return Structure()


def _jpeg(source: Path | bytes) -> Structure:
    if isinstance(source, bytes):
        return _jpeg_of(source)
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _jpeg_of(data)


def _jpeg_of(data: bytes | mmap.mmap) -> Structure:
    segments = read_segments(data)
    parts, alike = further_parts(data, segments)
    about = [(number, content) for number, _, content in segments.application]
    if any(number == 11 and b"c2pa" in content for number, content in about):
        parts.append(CREDENTIALS)
    if any(content.startswith(MORE_XMP) for _, content in about) and "depth map" not in parts:
        deep = any(content.startswith(MORE_XMP) and b"GDepth" in content for _, content in about)
        parts.append("depth map" if deep else "extended XMP")
    notes = (f"of the {alike} images in the file only the first is taken",) if alike > 1 else ()
    return Structure({}, notes + _dropped(parts), _comments(segments.comments))


def _comments(found: list[bytes]) -> tuple[Text, ...]:
    comments = [plain_text(comment).strip("\0") for comment in found]
    # What this program itself has written is about another image.
    return tuple(Text("Comment", c) for c in comments if c and not c.startswith("esrgan_jax "))


def _heif(file: BinaryIO) -> Structure:
    beside = read_heif_structure(file)
    if beside.coding in RARE_CODINGS:
        what = RARE_CODINGS[beside.coding]
        raise ValueError(f"the image in it is coded as {what}, which is not read in HEIF: {SAVE}")
    notes = _dropped(beside.parts)
    if beside.frames > 1:
        note = f"of the sequence of {beside.frames} images only the main one is taken"
        notes = (note, *notes)
    if beside.aspect is not None:
        across, down = beside.aspect
        notes += (f"its pixels are {across}:{down} and not square, which the result does not say",)
    return Structure({}, notes, orientation=beside.orientation)


def _dropped(parts: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """One sentence for all that comes with the image and is not in the result."""
    parts = tuple(dict.fromkeys(parts))
    if not parts:
        return ()
    listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
    are = "are" if parts[1:] or parts[0] in PLURAL else "is"
    return (f"its {listed} {are} dropped; the image itself is upscaled",)
