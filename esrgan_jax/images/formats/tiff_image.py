"""Decodes TIFF files with libvips or tifffile."""

import importlib.util
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips

from esrgan_jax.images.formats.tiff_directory import ORIENTATION
from esrgan_jax.images.formats.tiff_kind import FLOAT, ICCLAB, TiffKind, as_rgb, read_kind, refusal
from esrgan_jax.images.formats.tiff_tags import numbers, read_tags
from esrgan_jax.images.vips import LOADERS, load

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
BLOBS = {700: "xmp-data", 33723: "iptc-data", 34675: "icc-profile-data"}
MILLIMETRES = {2: 25.4, 3: 10.0}  # of a RESOLUTION_UNIT
# From Y, Cb and Cr to red, green and blue (ITU-R BT.601).
FROM_YCBCR: Any = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]


def tiff_kind(source: Path | bytes, where: Any) -> TiffKind | None:
    """Returns the kind of a TIFF; None if its tags are damaged.

    Raises:
        ValueError: The kind is not supported; the message says why, and what to do.
    """
    with _open(source) as file:
        kind = read_kind(file, where)
    wrong = refusal(kind, _has_codecs()) if kind else None
    if wrong:
        raise ValueError(wrong)
    return kind


def load_tiff(source: Path | bytes, kind: TiffKind, access: str) -> pyvips.Image:
    """Returns all samples of a TIFF; CIELAB and ICCLAB as Lab, YCbCr as RGB."""
    if kind.foreign:
        image = _by_tifffile(source, kind)
    elif kind.raw:
        options = {"fail_on": "error", **LOADERS["tiff"], "access": access}
        # Unlike tiffload_source, this keeps the source alive as long as any image made from it.
        image = pyvips.Image.new_from_source(_patched(source, kind), "", **options, **kind.where)
    else:
        return load(source, "tiff", access=access, **kind.where)
    return _named(image, kind)


def _open(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _has_codecs() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _patched(source: Path | bytes, kind: TiffKind) -> pyvips.SourceCustom:
    """Returns the file with the bytes of `as_rgb` replaced, as a source for libvips."""
    file = _open(source)
    changes = as_rgb(file, kind)
    file.seek(0)

    def read(size: int) -> bytes:
        start = file.tell()
        data = bytearray(file.read(size))
        for at, change in changes.items():
            for i, byte in enumerate(change, at - start):
                if 0 <= i < len(data):
                    data[i] = byte
        return bytes(data)

    patched = pyvips.SourceCustom()
    patched.on_read(read)
    patched.on_seek(file.seek)
    return patched


def _named(image: pyvips.Image, kind: TiffKind) -> pyvips.Image:
    """Returns samples that were decoded unchanged, with their colour space set or converted."""
    deep, real = image.format == "ushort", image.format == "float"
    match kind.photometric:
        case 8 | 9 if not real:
            rest = image[3:] if image.bands > 3 else None
            lab = _lab(image[:3], kind)
            return lab.bandjoin(rest.cast("float")) if rest else lab
        case 5:
            return image.copy(interpretation="cmyk")
        case 6:
            rgb = (image[:3] - [0, 128, 128]).recomb(FROM_YCBCR).rint().cast("uchar")
            rgb = rgb.copy(interpretation="srgb")
            return rgb.bandjoin(image[3:]) if image.bands > 3 else rgb
        case 2 | 3:
            name = "scrgb" if real else "rgb16" if deep else "srgb"
            return image.copy(interpretation=name)
        case _:
            return image.copy(interpretation="grey16" if deep else "b-w")


def _lab(image: pyvips.Image, kind: TiffKind) -> pyvips.Image:
    """Converts coded samples to Lab: L in [0, 100], a and b around 0."""
    wide = kind.bits == 16
    image = image.copy(format="ushort" if wide else "uchar")
    unit = 256 if wide else 1
    if kind.photometric == ICCLAB:  # of ICC version 2, whose 16-bit white is 0xFF00
        lab = (image - [0, 128 * unit, 128 * unit]) / [2.55 * unit, unit, unit]
    else:
        signed = image[1:].copy(format="short" if wide else "char") / unit
        lab = (image[0] * (100 / (65535 if wide else 255))).bandjoin(signed)
    return lab.cast("float").copy(interpretation="lab")


def _by_tifffile(source: Path | bytes, kind: TiffKind) -> pyvips.Image:
    """Decodes a whole TIFF that libvips cannot read."""
    import tifffile

    with _open(source) as file:
        try:
            with tifffile.TiffFile(file) as tiff:
                page: Any = tiff.pages[kind.where.get("page", 0)]
                if "subifd" in kind.where:
                    page = page.pages[kind.where["subifd"]]
                array = np.asarray(page.asarray())
                colormap = page.colormap
        except Exception as error:  # tifffile and its codecs raise many types
            raise ValueError("its pixels are damaged or cut off") from error
        resolution = X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT
        tags = read_tags(file, (ORIENTATION, *resolution, *BLOBS), **kind.where)
    if kind.planar and kind.samples > 1:
        array = np.moveaxis(array, 0, -1)
    array = np.ascontiguousarray(_full_scale(np.atleast_3d(array), kind, colormap))
    image = pyvips.Image.new_from_array(array)
    unit = MILLIMETRES.get(int((numbers(tags, RESOLUTION_UNIT) or (2,))[0]))
    across, down = (numbers(tags, tag) for tag in (X_RESOLUTION, Y_RESOLUTION))
    if unit and across and down:
        image = image.copy(xres=across[0] / unit, yres=down[0] / unit)
    for tag, name in BLOBS.items():
        if tag in tags:
            blob: Any = tags[tag].data
            image.set_type(pyvips.GValue.blob_type, name, blob)
    image.set_type(
        pyvips.GValue.gint_type, "orientation", int((numbers(tags, ORIENTATION) or (1,))[0])
    )
    return image


def _full_scale(array: np.ndarray, kind: TiffKind, colormap: Any) -> np.ndarray:
    """Scales samples (H, W, samples) to the full range of uint8 or uint16, or to float32."""
    if kind.photometric == 3 and colormap is not None:
        return (np.moveaxis(colormap, 0, -1)[array[..., 0]] >> 8).astype(np.uint8)
    if kind.format == FLOAT:
        with np.errstate(over="ignore"):  # infinite values are refused later
            return array.astype(np.float32)
    dtype = np.uint8 if kind.bits <= 8 else np.uint16
    if kind.bits not in (8, 16):
        white = np.iinfo(dtype).max / ((1 << kind.bits) - 1)
        array = np.rint(array.astype(np.float32) * np.float32(white))
    array = array.astype(dtype)
    return ~array if kind.photometric == 0 else array
