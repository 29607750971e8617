"""The output formats and what each can hold: bit depth, size, alpha, animation."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from esrgan_jax.errors import InputError


class Format(NamedTuple):
    """How a format is written, and what it can hold.

    Attributes:
        saver: Its name in libvips.
        options: Options of libvips' saver, in addition to those that depend on the image.
        usual: Typical size of a file divided by that of its pixels, for photographs upscaled x4.
            Drawings take less.
        least: The least possible size of a file divided by that of its pixels; 0 if not known.
        quality: The default quality, 1 to 100; None if it has no such setting.
        depths: Bits per channel; 32 is floating point.
        side: The largest width or height in pixels.
        alpha: Whether it holds transparency.
        frames: Whether it holds animations.
        lossless: Whether it can keep every pixel exactly.
    """

    saver: str
    options: Mapping[str, object]
    usual: float
    least: float = 0
    quality: int | None = None
    depths: tuple[int, ...] = (8,)
    side: int = 2**31 - 1
    alpha: bool = True
    frames: bool = False
    lossless: bool = True

    @property
    def lossy(self) -> bool:
        """Whether it has a quality setting."""
        return self.quality is not None


_DEFLATE = 1 / 1032  # it compresses by 1,032 at most
_JPEG = Format(
    "jpeg",
    {"subsample_mode": "off"},  # optimize_coding would hold all coefficients in memory
    usual=0.1,
    least=14 / 8 / 192,  # a block of 8x8 pixels has at least 14 bits
    quality=95,
    side=65_535,
    alpha=False,
    lossless=False,
)
_TIFF = Format("tiff", {"compression": "deflate"}, usual=0.5, least=_DEFLATE, depths=(8, 16, 32))
OUTPUT_FORMATS = {
    ".avif": Format(
        "heif",
        # More effort takes ten times as long and changes little at this quality.
        {"compression": "av1", "subsample_mode": "off", "effort": 2},
        usual=0.05,
        quality=90,
        depths=(8, 16),
        side=32_768,  # the largest that libavif reads
    ),
    ".gif": Format(
        "gif",
        {"keep_duplicate_frames": True},
        usual=0.3,
        side=65_535,
        frames=True,
        lossless=False,
    ),
    ".jfif": _JPEG,
    ".jpeg": _JPEG,
    ".jpg": _JPEG,
    ".png": Format(
        "png", {"compression": 6, "filter": "all"}, usual=0.4, least=_DEFLATE, depths=(8, 16)
    ),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": Format(
        "webp",
        {"exact": True, "smart_subsample": True},
        usual=0.15,
        quality=95,
        side=16_383,
        frames=True,
    ),
}
WRITABLE = tuple(OUTPUT_FORMATS)
FORMAT_DEPTHS: dict[np.dtype, int] = {
    np.dtype(np.uint8): 8,
    np.dtype(np.uint16): 16,
    np.dtype(np.float32): 32,
}


def output_dtype(suffix: str, dtype: np.typing.DTypeLike, depth: int | None = None) -> np.dtype:
    """Returns the pixel type of an output file.

    Args:
        suffix: Of the file, such as ".png".
        dtype: Of the input image: uint8, uint16 or float32.
        depth: The wanted bits per channel: 8, 16, or 32 for floating point. By default that of
            `dtype`, or the deepest of the format if that is less.

    Raises:
        InputError: The format does not hold this depth.
    """
    depths = _format(suffix).depths
    if depth is None:
        depth = min(FORMAT_DEPTHS[np.dtype(dtype)], depths[-1])
    if depth not in depths:
        able = [name for name, other in OUTPUT_FORMATS.items() if depth in other.depths]
        hint = f" choose {', '.join(able)}" if able else " the depths are 8, 16 and 32"
        raise InputError(
            f"{suffix} holds {' or '.join(map(str, depths))} bits a channel, not {depth};{hint}"
        )
    return next(kind for kind, bits in FORMAT_DEPTHS.items() if bits == depth)


def check_target(
    suffix: str,
    *,
    height: int,
    width: int,
    bands: int,
    dtype: np.typing.DTypeLike,
    frames: int = 1,
    further_bands: int = 0,
    quality: int | None = None,
    lossless: bool = False,
) -> None:
    """Checks that a file format can hold an image.

    Args:
        suffix: Of the file, such as ".png".
        height: Rows of one frame.
        frames: Frames of an animation; or 1 for the colours plus 1 for each further band.
        further_bands: Number of bands that are neither colour nor transparency.
        quality: 1 to 100, for lossy formats.

    Raises:
        InputError: It cannot; the message names formats that can.
    """
    to = _format(suffix)
    if min(height, width, frames) < 1 or bands not in (1, 2, 3, 4):
        raise InputError(f"{frames} x {height}x{width} pixels of {bands} channels is not an image")
    if FORMAT_DEPTHS.get(np.dtype(dtype)) not in to.depths:
        raise InputError(f"{suffix} does not hold {np.dtype(dtype)}; see output_dtype")
    if max(height, width) > to.side:
        raise InputError(
            f"{suffix} holds no more than {to.side} pixels a side, and this is {width}x{height}; "
            "choose .png or .tif"
        )
    if bands in (2, 4) and not to.alpha:
        raise InputError(f"{suffix} holds no transparency; choose .png, .webp or .tif")
    if further_bands and to.saver != "tiff":
        raise InputError(
            f"{suffix} holds only colour and transparency, and this image has {further_bands} "
            f"further band{'s' if further_bands > 1 else ''}; choose .tif"
        )
    if frames > 1 + further_bands and not to.frames:
        raise InputError(f"{suffix} holds no animation ({frames} frames); choose .webp or .gif")
    if lossless and not to.lossless:
        raise InputError(f"{suffix} is not lossless; choose .png, .tif, .webp or .avif")
    if quality is not None and not 1 <= quality <= 100:
        raise InputError(f"the quality {quality} is not from 1 to 100")


def _format(suffix: str) -> Format:
    if suffix.lower() not in OUTPUT_FORMATS:
        what = f"{suffix} is not an output format" if suffix else "the name has no ending"
        raise InputError(f"{what}; choose one of {', '.join(OUTPUT_FORMATS)}")
    return OUTPUT_FORMATS[suffix.lower()]
