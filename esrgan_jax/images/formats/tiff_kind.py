"""The format of the samples of a TIFF, and whether libvips, tifffile or neither decodes it."""

import struct
from collections.abc import Mapping
from typing import BinaryIO, NamedTuple

from esrgan_jax.images.formats.tiff_directory import BITS_PER_SAMPLE, PHOTOMETRIC
from esrgan_jax.images.formats.tiff_tags import numbers, offset_of_value, read_tags

COMPRESSION, SAMPLES_PER_PIXEL, PLANAR, PREDICTOR, TILE_WIDTH = 259, 277, 284, 317, 322
INK, EXTRA, SAMPLE_FORMAT, SUBSAMPLING = 332, 338, 339, 530
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2  # values of EXTRA
UNSIGNED, SIGNED, FLOAT, UNDEFINED, COMPLEX_INT, COMPLEX = range(1, 7)  # values of SAMPLE_FORMAT
GRAYS, TIFF_RGB, CMYK, YCBCR, CIELAB, ICCLAB, ITULAB = (0, 1), 2, 5, 6, 8, 9, 10
LOGL, LOGLUV = 32844, 32845
COLORS = {TIFF_RGB: 3, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3, ITULAB: 3, LOGLUV: 3}
JPEGS = (6, 7)
COMPRESSIONS = {
    6: "old JPEG",
    34661: "JBIG",
    34712: "JPEG 2000",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34887: "LERC",
    34892: "lossy DNG",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50000: "Zstandard",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
BY_LIBVIPS = {1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32909, 32946, 34676, 34677, 50001}
BY_TIFFFILE = {1, 8, 32946, 32773, 34925}  # the others need imagecodecs
CONVERT = "convert it to unsigned 8- or 16-bit integers or to floating point"
INSTALL = "run pip install imagecodecs"


class TiffKind(NamedTuple):
    """The format of the samples of a TIFF.

    Attributes:
        photometric: The value of PhotometricInterpretation.
        bits: Bits per sample.
        format: The value of SampleFormat: UNSIGNED, SIGNED, FLOAT, …
        samples: Samples per pixel.
        planar: Whether each sample has a separate plane.
        subsampled: Whether chroma, if there is any, has a lower resolution.
        extra: Kinds of the samples after the colours: UNSPECIFIED, ASSOCIATED, UNASSOCIATED.
        where: Options of libvips' loader that select the image.
    """

    compression: int
    photometric: int
    bits: int
    format: int
    predictor: int
    samples: int
    planar: bool
    tiled: bool
    subsampled: bool
    extra: tuple[int, ...]
    where: Mapping[str, int]

    @property
    def colors(self) -> int:
        return self.samples - len(self.extra)

    @property
    def raw(self) -> bool:
        """Whether libvips has to read the samples as RGB; they are converted afterwards.

        libvips reads only the first of several gray planes, and not every kind of Lab and YCbCr.
        """
        lab = self.photometric in (CIELAB, ICCLAB) and self.format != FLOAT
        ycbcr = self.photometric == YCBCR and self.compression not in JPEGS
        planes = self.planar and self.samples > 1 and self.photometric in GRAYS
        return lab or ycbcr or planes

    @property
    def foreign(self) -> bool:
        """Whether libvips cannot read the image."""
        return (
            self.compression not in BY_LIBVIPS
            or self.bits == 64
            or (self.planar and self.tiled and self.samples > 1)
            or self.bits not in (1, 2, 4, 8, 16, 32)
            or (self.bits < 8 and self.samples > 1)
        )


def read_kind(file: BinaryIO, where: Mapping[str, int]) -> TiffKind | None:
    """Reads the format of the samples of an open TIFF; None if its tags are damaged."""
    layout = COMPRESSION, SAMPLES_PER_PIXEL, PLANAR, PREDICTOR, TILE_WIDTH, SUBSAMPLING
    meaning = BITS_PER_SAMPLE, PHOTOMETRIC, INK, EXTRA, SAMPLE_FORMAT
    tags = read_tags(file, layout + meaning, **where)
    if not tags:
        return None

    def value(tag: int, default: int) -> int:
        return int((numbers(tags, tag) or (default,))[0])

    samples, photometric = value(SAMPLES_PER_PIXEL, 1), value(PHOTOMETRIC, -1)
    colors = min(COLORS.get(photometric, 1), samples)
    if photometric == CMYK and value(INK, 1) != 1:
        colors = 1  # inks other than CMYK are further bands
    named = [int(number) for number in numbers(tags, EXTRA)]
    if photometric in GRAYS and samples == 3 and not any(named):
        colors = 3  # other programs show it as RGB, and some write RGB so
    extra = [UNSPECIFIED] * (samples - colors)
    extra[: len(named)] = named[: len(extra)]
    return TiffKind(
        value(COMPRESSION, 1),
        photometric,
        value(BITS_PER_SAMPLE, 1),
        value(SAMPLE_FORMAT, UNSIGNED),
        value(PREDICTOR, 1),
        samples,
        value(PLANAR, 1) == 2,
        TILE_WIDTH in tags,
        numbers(tags, SUBSAMPLING)[:2] != (1, 1),
        tuple(extra),
        where,
    )


def unsupported_reason(kind: TiffKind, codecs: bool) -> str | None:
    """Returns why a TIFF is not supported and what to do; None if it is supported.

    Args:
        codecs: Whether imagecodecs is installed.
    """
    if kind.format in (COMPLEX_INT, COMPLEX):
        return "its values are complex numbers; save their magnitude as 32-bit floats"
    if kind.format == SIGNED and kind.photometric != CIELAB:  # a and b are signed
        return f"its values are signed {kind.bits}-bit integers; {CONVERT}"
    if kind.format != FLOAT and kind.bits > 16:
        return f"its values are {kind.bits}-bit integers; {CONVERT}"
    if kind.format == FLOAT and kind.bits not in (16, 32, 64):
        return f"its values are {kind.bits}-bit floats; {CONVERT}"
    if kind.photometric in (LOGL, LOGLUV) and kind.compression not in (34676, 34677):
        return "its LogLuv colours do not have SGILog compression; save it as 32-bit floats"
    if kind.photometric == ITULAB:
        return "its colours are in the Lab encoding of fax machines (ITULAB); save it as RGB"
    if kind.photometric == YCBCR and kind.subsampled and kind.compression not in JPEGS:
        return "its colours are subsampled YCbCr without JPEG compression; save it as RGB"
    if not kind.foreign or codecs:
        return None
    name = COMPRESSIONS.get(kind.compression, f"number {kind.compression}")
    if kind.compression not in BY_LIBVIPS | BY_TIFFFILE:
        return f"its compression is {name}; {INSTALL}, or save it with LZW or Deflate"
    if kind.bits not in (1, 8, 16, 32, 64) or (kind.bits < 8 and kind.samples > 1):
        return f"its values are packed in {kind.bits} bits each; {INSTALL}, or {CONVERT}"
    if kind.compression in BY_TIFFFILE and (kind.predictor < 3 or kind.compression == 1):
        return None
    if kind.bits < 64 and not kind.planar:
        return f"its floats are compressed with {name}; {INSTALL}, or save it with LZW or Deflate"
    what = "64-bit floats" if kind.bits == 64 else "planes in tiles"
    return f"it has compressed {what}; {INSTALL}, or save it without compression"


def as_rgb(file: BinaryIO, kind: TiffKind) -> dict[int, bytes]:
    """Returns {offset: bytes} to replace in an open TIFF so that libvips reads it as RGB."""
    order = "<" if file.seek(0) == 0 and file.read(2) == b"II" else ">"
    at = offset_of_value(file, PHOTOMETRIC, **kind.where)
    return {at: struct.pack(f"{order}H", TIFF_RGB)}
