"""Reads the colour tags of a file: ICC, PNG chunks, nclx of HEIF, TIFF tags and EXIF."""

import struct
from typing import BinaryIO

import numpy as np

from esrgan_jax.images.color.coded_color import av1_color, hevc_color
from esrgan_jax.images.color.color_spaces import (
    UNKNOWN,
    Cicp,
    Color,
    adobe_rgb,
    chromatic_color,
    cicp_color,
)
from esrgan_jax.images.color.icc import (
    BT709,
    DAMAGED_PROFILE,
    fault,
    gamma_curve,
    srgb_curve,
    table_curve,
)
from esrgan_jax.images.formats.heif_items import first_bytes, read_heif_items
from esrgan_jax.images.formats.tiff_directory import BITS_PER_SAMPLE
from esrgan_jax.images.formats.tiff_tags import numbers, read_tags
from esrgan_jax.images.metadata.fields import BLOB, PROFILE, Metadata

PNG_COLOR = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
TIFF_GAMMA = 2.2  # for TIFF's primaries without a transfer function (TIFF 6.0, section 20)
WHITE_POINT, PRIMARY_CHROMATICITIES, TRANSFER_FUNCTION = 318, 319, 301
ADOBE_INDEX = "R03"  # DCF's name for Adobe RGB
EXIF_SPACE = ("exif-ifd2-ColorSpace", "exif-ifd4-InteroperabilityIndex")


def with_color_profile(
    kind: str, file: BinaryIO, metadata: Metadata, bands: int
) -> tuple[Metadata, tuple[str, ...]]:
    """Returns the metadata with a profile unless the values are sRGB, and notes.

    Args:
        kind: The format, a key of LOADERS or "heic".
        file: The open file.
        metadata: The metadata of the file, with its ICC profile, if any.
        bands: The bands of a pixel.
    """
    gray, notes = bands < 3, ()
    chunks = _png_chunks(file) if kind == "png" else {}
    color = _cicp_of_png(chunks, gray)
    icc = metadata.get(PROFILE, (0, None))[1]
    if color is None and (icc is not None or b"iCCP" in chunks):
        wrong = DAMAGED_PROFILE if icc is None else fault(icc, bands)
        if wrong is None:
            return metadata, ()
        notes = (wrong,)
    if color is None:
        color = _color_without_icc(kind, file, chunks, metadata, gray)
    metadata = {name: value for name, value in metadata.items() if name != PROFILE}
    if color.icc is not None:
        metadata[PROFILE] = (BLOB, color.icc)
    return metadata, notes + color.notes


def _color_without_icc(
    kind: str, file: BinaryIO, chunks: dict[bytes, bytes], metadata: Metadata, gray: bool
) -> Color:
    """Returns the colour space of a file without a valid ICC profile."""
    match kind:
        case "png":
            return Color() if b"sRGB" in chunks else _png_numbers(chunks, gray)
        case "tiff":
            return tiff_color(file, gray) or exif_color(metadata, gray)
        case "jpeg":
            return exif_color(metadata, gray)
        case "heif" | "heic":
            return heif_color(file, gray)
    return Color()


def heif_color(file: BinaryIO, gray: bool) -> Color:
    """Returns the colour space of an open HEIF or AVIF, from nclx or else the coded image."""
    try:
        items = read_heif_items(file)
        own = [*items.owned.get(items.coded, ()), *items.owned.get(items.primary, ())]
        nclx = [data[4:8] for kind, data in own if kind == b"colr" and data[:4] == b"nclx"]
        code = struct.unpack(">2H", nclx[-1]) if nclx else (UNKNOWN, UNKNOWN)
        if UNKNOWN in code:
            coding, coded = items.of(items.coded), None
            if b"hvcC" in coding:
                coded = hevc_color(coding[b"hvcC"])
            elif b"av1C" in coding:
                coded = av1_color(coding[b"av1C"][4:] + first_bytes(file, items, items.coded))
            code = [a if a != UNKNOWN else b for a, b in zip(code, coded or code, strict=True)]
    except (struct.error, IndexError):
        return Color()  # damaged; the decoder reports it
    return cicp_color(Cicp(*code), gray)


def _cicp_of_png(chunks: dict[bytes, bytes], gray: bool) -> Color | None:
    """Returns the colour space of cICP, which precedes iCCP, sRGB, gAMA and cHRM (PNG, 3rd ed.)."""
    cicp = chunks.get(b"cICP", b"")
    known = len(cicp) == 4 and cicp[2] == 0  # a matrix is for video
    return cicp_color(Cicp(cicp[0], cicp[1], cicp[3]), gray) if known else None


def _png_numbers(chunks: dict[bytes, bytes], gray: bool) -> Color:
    """Returns the colour space of gAMA and cHRM."""
    curve, primaries = srgb_curve(), None
    gamma, chrm = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) == 4 and (inverse := int.from_bytes(gamma)) > 0:
        curve = gamma_curve(100_000 / inverse)
    if len(chrm) == 32:
        white, *colors = np.array(struct.unpack(">8I", chrm)).reshape(4, 2) / 100_000
        primaries = tuple(float(n) for n in np.concatenate([*colors, white]))
    return chromatic_color(curve, primaries, gray, "PNG gAMA, cHRM")


def _png_chunks(file: BinaryIO) -> dict[bytes, bytes]:
    """Returns the colour chunks of an open PNG; of equal names, the first one."""
    file.seek(8)
    chunks: dict[bytes, bytes] = {}
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        size = int.from_bytes(head[:4])
        if head[4:] in PNG_COLOR and size < 1 << 24:
            chunks.setdefault(head[4:], file.read(size))
            file.seek(4, 1)
        else:
            file.seek(size + 4, 1)
    return chunks


def tiff_color(file: BinaryIO, gray: bool) -> Color | None:
    """Returns the colour space that tags of an open TIFF define; None without such tags."""
    tags = read_tags(
        file, (WHITE_POINT, PRIMARY_CHROMATICITIES, TRANSFER_FUNCTION, BITS_PER_SAMPLE)
    )
    white, colors = numbers(tags, WHITE_POINT), numbers(tags, PRIMARY_CHROMATICITIES)
    table, bits = numbers(tags, TRANSFER_FUNCTION), numbers(tags, BITS_PER_SAMPLE)
    primaries = None
    if len(colors) == 6:
        primaries = (*colors, *(white if len(white) == 2 else BT709[6:]))
    if bits and len(table) in (2 ** bits[0], 3 * 2 ** bits[0]):
        tables = np.array(table).reshape(-1, int(2 ** bits[0])) / 65535
        curves = [table_curve(_shortened(one)) for one in tables]
        return chromatic_color(
            (curves[0], curves[-2 % len(curves)], curves[-1]), primaries, gray, "TIFF"
        )
    if primaries is None or np.allclose(primaries, BT709, atol=2e-3):
        return None
    return chromatic_color(gamma_curve(TIFF_GAMMA), primaries, gray, "TIFF")


def _shortened(table: np.ndarray) -> np.ndarray:
    """Shortens a table of 65,536 values to 4,097, which saves 120 KB and is as accurate."""
    places = np.linspace(0, len(table) - 1, min(len(table), 4097))
    return np.interp(places, np.arange(len(table)), table)


def exif_color(metadata: Metadata, gray: bool) -> Color:
    """Returns the colour space in EXIF: sRGB or Adobe RGB.

    EXIF has no number for Adobe RGB: cameras write "uncalibrated" and the index R03, and some
    programs write a 2.
    """
    space, index = (_text(metadata, name) for name in EXIF_SPACE)
    if gray or not (space.startswith("2") or index.startswith(ADOBE_INDEX)):
        return Color()
    return Color(adobe_rgb())


def _text(metadata: Metadata, name: str) -> str:
    return str(metadata[name][1]) if name in metadata else ""
