"""Decodes TIFF files with libvips or tifffile."""

import importlib.util
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from esrgan_jax.images.formats.tiff_directory import ORIENTATION
from esrgan_jax.images.formats.tiff_kind import (
    FLOAT,
    ICCLAB,
    TiffKind,
    as_rgb,
    read_kind,
    unsupported_reason,
)
from esrgan_jax.images.formats.tiff_tags import numbers, read_tags
from esrgan_jax.images.inputs import open_binary
from esrgan_jax.images.vips import LOADERS, load_vips

X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
BLOBS = {700: "xmp-data", 33723: "iptc-data", 34675: "icc-profile-data"}
MILLIMETRES = {2: 25.4, 3: 10.0}  # of a RESOLUTION_UNIT
# From Y, Cb and Cr to red, green and blue (ITU-R BT.601); pyvips declares no lists of lists.
FROM_YCBCR: Any = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]


def tiff_kind(source: Path | bytes, where: Mapping[str, int]) -> TiffKind | None:
    """Returns the format of the samples of a TIFF; None if its tags are damaged.

    Args:
        where: Options of libvips' loader that select the image.

    Raises:
        ValueError: The format is not supported.
    """
    with open_binary(source) as file:
        kind = read_kind(file, where)
    if kind and (reason := unsupported_reason(kind, _has_codecs())):
        raise ValueError(reason)
    return kind


def load_tiff(source: Path | bytes, kind: TiffKind, access: str) -> pyvips.Image:
    """Opens a TIFF with all of its samples; CIELAB and ICCLAB become Lab, YCbCr RGB."""
    if kind.foreign:
        image = _by_tifffile(source, kind)
    elif kind.raw:
        options = {"fail_on": "error", **LOADERS["tiff"], "access": access}
        # Unlike tiffload_source, this keeps the source alive as long as any image made from it.
        image = pyvips.Image.new_from_source(_patched(source, kind), "", **options, **kind.where)
    else:
        return load_vips(source, "tiff", access=access, **kind.where)
    return _in_color_space(image, kind)


def _has_codecs() -> bool:
    return importlib.util.find_spec("imagecodecs") is not None


def _patched(source: Path | bytes, kind: TiffKind) -> pyvips.SourceCustom:
    """Returns a source for libvips: the file, with the bytes that `as_rgb` returns replaced."""
    file = open_binary(source)
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
    weakref.finalize(patched, file.close)
    return patched


def _in_color_space(image: pyvips.Image, kind: TiffKind) -> pyvips.Image:
    """Sets the colour space of decoded samples; coded Lab becomes Lab, and YCbCr RGB."""
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
    """Converts coded samples to floating-point Lab: L in [0, 100], a and b around 0."""
    wide = kind.bits == 16
    image = image.copy(format="ushort" if wide else "uchar")
    unit = 256 if wide else 1
    if kind.photometric == ICCLAB:  # as in ICC version 2: white is 0xFF00 in 16 bits
        lab = (image - [0, 128 * unit, 128 * unit]) / [2.55 * unit, unit, unit]
    else:
        signed = image[1:].copy(format="short" if wide else "char") / unit
        lab = (image[0] * (100 / (65535 if wide else 255))).bandjoin(signed)
    return lab.cast("float").copy(interpretation="lab")


def _by_tifffile(source: Path | bytes, kind: TiffKind) -> pyvips.Image:
    """Decodes a whole TIFF that libvips cannot read."""
    import tifffile

    with open_binary(source) as file:
        try:
            with tifffile.TiffFile(file) as tiff:
                page: Any = tiff.pages[kind.where.get("page", 0)]
                if "subifd" in kind.where:
                    page = page.pages[kind.where["subifd"]]
                array = np.asarray(page.asarray())
                colormap = page.colormap
        except Exception as error:  # tifffile and its codecs raise many types
            raise ValueError("its pixels are truncated or damaged") from error
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
            blob: Any = tags[tag].data  # pyvips declares no bytes
            image.set_type(pyvips.GValue.blob_type, name, blob)
    image.set_type(
        pyvips.GValue.gint_type, "orientation", int((numbers(tags, ORIENTATION) or (1,))[0])
    )
    return image


def _full_scale(array: np.ndarray, kind: TiffKind, colormap: np.ndarray | None) -> np.ndarray:
    """Scales samples (H, W, samples) to the full range of uint8 or uint16, or to float32."""
    if kind.photometric == 3 and colormap is not None:
        return (np.moveaxis(colormap, 0, -1)[array[..., 0]] >> 8).astype(np.uint8)
    if kind.format == FLOAT:
        with np.errstate(over="ignore"):  # infinite values are reported later
            return array.astype(np.float32)
    dtype = np.uint8 if kind.bits <= 8 else np.uint16
    if kind.bits not in (8, 16):
        white = np.iinfo(dtype).max / ((1 << kind.bits) - 1)
        array = np.rint(array.astype(np.float32) * np.float32(white))
    array = array.astype(dtype)
    return ~array if kind.photometric == 0 else array
