"""Decodes HEIC with pi-heif, because the wheel of libvips has no HEVC decoder."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from esrgan_jax.errors import InputError


class Heic(NamedTuple):
    """The header of a HEIC file; sizes and pixels are those of the upright image.

    Attributes:
        dtype: uint8, or uint16 with white at 65535.
        images: Number of images in the file; only the primary one is read.
        pixels: Decodes the image to an array (height, width, bands).
    """

    height: int
    width: int
    bands: int
    dtype: np.dtype
    images: int
    exif: bytes | None
    xmp: bytes | None
    icc: bytes | None
    pixels: Callable[[], np.ndarray]


def open_heic(source: Path | bytes) -> Heic:
    """Reads the header of a HEIC file.

    Raises:
        InputError: pi-heif is not installed.
        ValueError: The file is damaged; also OSError, EOFError, SyntaxError or RuntimeError.
    """
    try:
        import pi_heif
    except ImportError as error:
        name = "standard input" if isinstance(source, bytes) else source
        raise InputError(f"{name}: HEIC needs pi-heif; run pip install pi-heif") from error

    def decoder() -> "pi_heif.HeifFile":
        file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
        return pi_heif.open_heif(file, convert_hdr_to_8bit=False)

    header = decoder()
    width, height = header.size
    mode, _, deep = header.mode.partition(";")
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    info: dict[str, Any] = header.info  # its declared type is the union of all entries
    bits = info["bit_depth"]

    def pixels() -> np.ndarray:
        file = decoder()
        array = np.atleast_3d(np.array(file))  # a copy, as the memory is freed with the file
        if deep and bits < 16:  # pi-heif only shifts the bits up, so white is below 65535
            scale = np.float32(65535 / (65536 - (1 << (16 - bits))))
            array = np.rint(array * scale).astype(np.uint16)
        return array

    return Heic(
        height,
        width,
        {"L": 1, "I": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode],
        dtype,
        len(header),
        info.get("exif"),
        info.get("xmp"),
        info.get("icc_profile"),
        pixels,
    )
