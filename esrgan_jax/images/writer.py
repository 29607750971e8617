"""Writes image files strip by strip, with profile, EXIF and timing."""

import shutil
import struct
import tempfile
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips

from esrgan_jax.errors import InputError
from esrgan_jax.files import replacing, write_error
from esrgan_jax.images.bands import count_further_bands, extra_of, filled, interleaved
from esrgan_jax.images.formats.gif import add_comment
from esrgan_jax.images.formats.tiff_directory import Field
from esrgan_jax.images.formats.tiff_kind import EXTRA
from esrgan_jax.images.metadata.exif import append_exif
from esrgan_jax.images.metadata.fields import exif_fields, scaled_metadata, with_metadata
from esrgan_jax.images.metadata.geotiff import nodata_of, scaled_geo
from esrgan_jax.images.metadata.insertion import insert_jpeg_comments, insert_png_text
from esrgan_jax.images.metadata.photoshop import iptc_for
from esrgan_jax.images.metadata.png_text import iptc_text
from esrgan_jax.images.metadata.texts import TextPlaces, place_texts
from esrgan_jax.images.output_formats import OUTPUT_FORMATS, WRITABLE, check_target, output_dtype
from esrgan_jax.images.reader import OpenedImage
from esrgan_jax.images.row_source import RowSource
from esrgan_jax.images.vips import reason, save

__all__ = ["WRITABLE", "check_target", "output_dtype", "write_rows"]


class _StripsFailed(Exception):
    """Carries what the strips raised past those who would take an OSError for their own."""

    def __init__(self, reason: Exception):
        self.reason = reason


QUALITY = {"jpeg": 95, "webp": 95, "heif": 90}
CLASSIC_TIFF = 2**32 - 2**24  # bytes that it can point at, with some room for the header


def write_rows(
    target: Path | BinaryIO,
    strips: Iterable[np.ndarray],
    *,
    height: int,
    width: int,
    bands: int,
    dtype: np.typing.DTypeLike,
    frames: int = 1,
    suffix: str | None = None,
    like: OpenedImage | None = None,
    software: str | None = None,
    quality: int | None = None,
    lossless: bool = False,
) -> None:
    """Writes an image while it is being computed; only a few strips are in memory.

    The file is written beside its target and renamed. `strips` is pulled in the calling thread,
    while another one compresses; what it raises comes out of here, and no file is left. WebP and
    AVIF are compressed as a whole, so they hold all pixels in memory.

    Args:
        target: A file, its parent folders are made; or a stream, which is given a finished file.
        strips: (n, width, bands) of `dtype`, top to bottom, frame after frame. Floating point is
            in [0, 1].
        height: Rows of one frame.
        suffix: The format of a stream; that of a file is in its name.
        like: The image that it was made from: its colour profile, EXIF, XMP, IPTC, resolution,
            timing and white are carried over.
        software: What it was made with, for EXIF, the text of a PNG and the comment of a GIF.
        quality: 1 to 100, for JPEG, WebP and AVIF; left out, about as good as can be seen.
        lossless: For WebP and AVIF: every pixel is kept.

    Raises:
        InputError: The format cannot hold the image, see `check_target`.
        RunError: The file cannot be written.
    """
    suffix = (suffix or (target.suffix if isinstance(target, Path) else "")).lower()
    name = target if isinstance(target, Path) else "standard output"
    dtype = np.dtype(dtype)
    try:
        check_target(
            suffix,
            height=height,
            width=width,
            bands=bands,
            dtype=dtype,
            frames=frames,
            further_bands=count_further_bands(like.extra) if like is not None else 0,
            quality=quality,
            lossless=lossless,
        )
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    saver = OUTPUT_FORMATS[suffix].saver
    size = height * width * bands * frames * dtype.itemsize
    options = _options(saver, size, dtype, quality, lossless)
    strips = _as_held(strips, options.get("bitdepth"), dtype, like.white if like else 1.0)
    further, extra, folder = {}, (), target.parent if isinstance(target, Path) else None
    if like is not None and saver == "tiff":
        value = nodata_of(like.geo, dtype)
        if like.nodata is not None and value is not None and bands in (2, 4):
            strips, bands = filled(strips, value), bands - 1
        if like.geo is not None:
            scale = (width / like.width, height / like.height)
            further = scaled_geo(like.geo, scale, keep_nodata=value is not None)
        if like.extra:
            extra = extra_of(like.extra, bands)
            strips = interleaved(strips, (height, width, bands), dtype, extra, folder)
            bands, frames = bands - (bands in (2, 4)) + len(extra), 1
            further[EXTRA] = Field(3, struct.pack(f"<{len(extra)}H", *extra))

    metadata, place = {}, TextPlaces()
    if like is not None:
        scale = (width / like.width, height / like.height)
        metadata = scaled_metadata(like.metadata, (width, height), scale)
        _, exif = metadata.get("exif-data", (0, None))
        place = place_texts(like.texts, exif, saver)
        metadata |= exif_fields(place.exif) if place.exif != exif else {}

    def write(path: Path) -> None:
        rows = RowSource(height * frames, width, bands, dtype, extra)
        image, keep = with_metadata(
            rows.image.copy(interpretation=_interpretation(bands - len(extra), dtype)),
            saver,
            metadata,
            page_height=height if frames > 1 else None,
            resolution=like.resolution if like is not None else None,
            software=software,
        )
        with ThreadPoolExecutor(1) as pool:
            saving = pool.submit(
                _until_stopped, rows, lambda: save(image, saver, path, keep=keep, **options)
            )
            try:
                _feed(rows, strips, saving, (height * frames, width, bands), dtype)
            finally:
                rows.end()
        saving.result()
        if saver == "tiff":
            known = {name: value for name, (_, value) in metadata.items()}
            iptc = iptc_for(saver, known.get("iptc-data", b""))
            append_exif(path, known.get("exif-data"), software, iptc, further)
        if saver == "png":
            iptc = [iptc_text(metadata["iptc-data"][1])] if "iptc-data" in metadata else []
            insert_png_text(path, [*place.texts, *iptc])
        if saver == "jpeg":
            insert_jpeg_comments(path, place.comments)
        if saver == "gif":
            for comment in (*place.comments, *([software] if software else [])):
                add_comment(path, comment)

    failure = None
    try:
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as partial:
                write(partial)
        else:  # whole or not at all; and a TIFF cannot be written to a pipe from front to end
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder, "image"))
                with Path(folder, "image").open("rb") as file:
                    shutil.copyfileobj(file, target)
    except _StripsFailed as error:
        failure = error.reason
    except (pyvips.Error, OSError) as error:
        raise write_error(name, error, reason(error)) from error
    if failure is not None:
        raise failure  # here, so that it has the context it came with


def _options(
    saver: str, size: int, dtype: np.dtype, quality: int | None, lossless: bool
) -> dict[str, Any]:
    """The options of libvips' saver."""
    best = {"Q": quality or QUALITY.get(saver), "lossless": lossless}
    match saver:
        case "png":
            return {"compression": 6, "filter": "all"}
        case "jpeg":  # optimize_coding would hold all coefficients in memory
            return {"Q": best["Q"], "subsample_mode": "off"}
        case "webp":
            return {**best, "exact": True, "smart_subsample": True}
        case "heif":
            bits = 8 if dtype == np.uint8 else _avif_bits(lossless)
            # More effort takes ten times as long and changes next to nothing at this quality.
            told = {"compression": "av1", "bitdepth": bits, "subsample_mode": "off", "effort": 2}
            return {**best, **told}
        case "gif":
            return {"keep_duplicate_frames": True}
    return {
        "compression": "deflate",
        "predictor": "float" if dtype == np.float32 else "horizontal",
        "bigtiff": size > CLASSIC_TIFF,
    }


def _avif_bits(lossless: bool) -> int:
    """Ten can be shown by all that show AVIF; twelve come nearer to sixteen."""
    return 12 if lossless else 10


def _as_held(
    strips: Iterable[np.ndarray], bits: int | None, dtype: np.dtype, white: float
) -> Iterable[np.ndarray]:
    """Floats brought back from [0, 1]; 16 bits rounded to the 10 or 12 that libvips cuts off at."""
    if dtype == np.float32 and white != 1:
        return (strip * np.float32(white) for strip in strips)
    if dtype == np.uint16 and bits is not None:
        scale = np.float32((2**bits - 1) / 65535)
        return (np.rint(strip * scale).astype(np.uint16) << (16 - bits) for strip in strips)
    return strips


def _interpretation(bands: int, dtype: np.dtype) -> str:
    deep = dtype == np.uint16
    return ("grey16" if deep else "b-w") if bands < 3 else ("rgb16" if deep else "srgb")


def _until_stopped(rows: RowSource, save: Any) -> None:
    try:
        save()
    finally:
        rows.stop()


def _feed(
    rows: RowSource,
    strips: Iterable[np.ndarray],
    saving: Future[None],
    shape: tuple[int, int, int],
    dtype: np.dtype,
) -> None:
    """Hands strips over until all rows are there or the other thread has given up."""
    height, done = shape[0], 0
    try:
        for strip in strips:
            if strip.shape[1:] != shape[1:] or strip.dtype != dtype:
                raise ValueError(f"a strip of {strip.dtype} {strip.shape} for {dtype} {shape}")
            done += len(strip)
            if len(strip) and not rows.feed(strip) and done < height:
                return
        if done != height:
            raise ValueError(f"the strips have {done} rows, not {height}")
    except Exception as error:
        raise _StripsFailed(error) from error
