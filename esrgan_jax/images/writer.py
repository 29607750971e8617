"""Writes image files strip by strip, with colour profile, metadata and timing."""

import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

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
from esrgan_jax.images.output_formats import (
    OUTPUT_FORMATS,
    WRITABLE,
    Format,
    check_target,
    output_dtype,
)
from esrgan_jax.images.reader import OpenedImage
from esrgan_jax.images.row_source import RowSource
from esrgan_jax.images.vips import reason, save

__all__ = ["WRITABLE", "check_target", "output_dtype", "write_rows"]


class _StripsFailed(Exception):
    """Wraps an exception of the strips, so that its OSError is not taken for one of writing."""

    def __init__(self, reason: Exception):
        self.reason = reason


CLASSIC_TIFF = 2**32 - 2**24  # bytes that 32-bit offsets reach, less some room for the header


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
    """Writes an image while it is computed, with only a few strips in memory.

    The file is written under a temporary name and renamed. `strips` is consumed in the calling
    thread while another thread compresses; its exceptions are raised again, and no file is left.
    WebP and AVIF are compressed as a whole, so all their pixels are in memory.

    Args:
        target: A file, whose parent folders are made; or a stream, which gets the finished file.
        strips: (n, width, bands) of `dtype`, top to bottom, frame after frame. Floating point is
            in [0, 1].
        height: Rows of one frame.
        suffix: The format for a stream; the format of a file is given by its name.
        like: The source image: its colour profile, EXIF, XMP, IPTC, resolution, timing and the
            white levels of floats are kept.
        software: The program's name, for EXIF, the text of a PNG and the comment of a GIF.
        quality: 1 to 100, for JPEG, WebP and AVIF; None for the format's default.
        lossless: For WebP and AVIF: whether every pixel is kept exactly.

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
    to = OUTPUT_FORMATS[suffix]
    saver = to.saver
    size = height * width * bands * frames * dtype.itemsize
    options = _options(to, size, dtype, quality, lossless)
    bits = _avif_bits(dtype, lossless) if saver == "heif" else None
    white = np.full(bands, like.white if like is not None else 1, np.float32)
    if like is not None and bands in (2, 4):
        white[-1] = like.alpha_white
    strips = _to_stored_values(strips, bits, dtype, white)
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
        else:  # complete or not at all; besides, writing a TIFF needs seeking
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder, "image"))
                with Path(folder, "image").open("rb") as file:
                    shutil.copyfileobj(file, target)
    except _StripsFailed as error:
        failure = error.reason
    except (pyvips.Error, OSError) as error:
        raise write_error(name, error, reason(error)) from error
    if failure is not None:
        raise failure  # outside the handler, so that its context stays as it was


def _options(
    to: Format, size: int, dtype: np.dtype, quality: int | None, lossless: bool
) -> dict[str, object]:
    """Returns the options of libvips' saver."""
    options = dict(to.options)
    if to.lossy:
        options["Q"] = quality or to.quality
    if to.lossy and to.lossless:
        options["lossless"] = lossless
    if to.saver == "heif":
        options["bitdepth"] = _avif_bits(dtype, lossless)
    if to.saver == "tiff":
        options["predictor"] = "float" if dtype == np.float32 else "horizontal"
        options["bigtiff"] = size > CLASSIC_TIFF
    return options


def _avif_bits(dtype: np.dtype, lossless: bool) -> int:
    """Returns AVIF's bit depth: all viewers show 10 bits, but 12 are closer to 16."""
    return 8 if dtype == np.uint8 else 12 if lossless else 10


def _to_stored_values(
    strips: Iterable[np.ndarray], bits: int | None, dtype: np.dtype, white: np.ndarray
) -> Iterable[np.ndarray]:
    """Scales floats back from [0, 1]; rounds 16 bits to `bits`, to which libvips truncates."""
    if dtype == np.float32 and (white != 1).any():
        return (strip * white for strip in strips)
    if dtype == np.uint16 and bits is not None:
        scale = np.float32((2**bits - 1) / 65535)
        return (np.rint(strip * scale).astype(np.uint16) << (16 - bits) for strip in strips)
    return strips


def _interpretation(bands: int, dtype: np.dtype) -> str:
    """Returns libvips' name of the colour space."""
    deep = dtype == np.uint16
    return ("grey16" if deep else "b-w") if bands < 3 else ("rgb16" if deep else "srgb")


def _until_stopped(rows: RowSource, save: Callable[[], None]) -> None:
    """Saves, and then releases the thread that feeds the rows, also after a failure."""
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
    """Passes strips on until all rows are written or the other thread has stopped."""
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
