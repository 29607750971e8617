"""Opens image files strip by strip, with their channels and bit depth."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from dataclasses import field as member
from functools import partial
from pathlib import Path

import numpy as np
import pyvips
from PIL.BmpImagePlugin import BmpImageFile

from esrgan_jax.images.bands import Samples, frame, samples_of
from esrgan_jax.images.color.color_tags import with_color_profile
from esrgan_jax.images.formats.bmp import bmp_profile
from esrgan_jax.images.formats.gif import require_whole_gif
from esrgan_jax.images.formats.heic import open_heic
from esrgan_jax.images.formats.jpeg_end import checked_jpeg
from esrgan_jax.images.formats.pnm import pnm_rows, read_pnm_header
from esrgan_jax.images.formats.tiff_image import load_tiff, tiff_kind
from esrgan_jax.images.inputs import kind_of, open_binary
from esrgan_jax.images.metadata.exif import read_tiff_exif
from esrgan_jax.images.metadata.fields import (
    BLOB,
    Metadata,
    dropped_description,
    exif_fields,
    field,
    heif_metadata,
    image_metadata,
    upright_metadata,
)
from esrgan_jax.images.metadata.geotiff import Geo, nodata_of, read_geo
from esrgan_jax.images.metadata.png_text import Text
from esrgan_jax.images.metadata.texts import texts_of_exif
from esrgan_jax.images.reasons import explained
from esrgan_jax.images.structure import Structure, examined
from esrgan_jax.images.vips import (
    NUMPY_DTYPES,
    PLAIN,
    STRIP,
    image_rows,
    load_vips,
    to_gray_or_rgb,
    upright,
)

HIGHEST_HDR = 16  # higher floats are 8-bit or 16-bit numbers, not HDR light


@dataclass(frozen=True)
class OpenedImage:
    """An open image, upright.

    Attributes:
        name: The file, for messages.
        height: Rows of one frame.
        bands: 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA.
        dtype: np.uint8, np.uint16 (white is 65535) or np.float32 (in [0, 1]).
        frames: 1, or those of an animation; each has the full size.
        notes: What the user should know about the reading, each a sentence without a full stop.
        metadata: What `write_rows` keeps, as libvips' fields: {name: (GType, value)}.
        resolution: Pixels per millimetre, (across, down); None if the file has none.
        texts: Text outside EXIF and XMP, such as PNG text or a JPEG comment.
        white: The value that floating-point values were divided by to be in [0, 1].
        alpha_white: The same for alpha, the last band of 2 or 4.
        extra: TIFF's kinds of the samples after the colours, if any is a further band; each
            further band is a frame, see `bands`.
        geo: The georeference.
        nodata: The value of pixels without data, which are transparent here.
    """

    name: str
    height: int
    width: int
    bands: int
    dtype: np.dtype
    strips: Callable[[], Iterator[np.ndarray]] = member(repr=False)
    frames: int = 1
    notes: tuple[str, ...] = ()
    metadata: Metadata = member(default_factory=dict, repr=False)
    resolution: tuple[float, float] | None = None
    texts: tuple[Text, ...] = ()
    white: float = 1.0
    alpha_white: float = 1.0
    extra: tuple[int, ...] = ()
    geo: Geo | None = None
    nodata: float | None = None

    def rows(self) -> Iterator[np.ndarray]:
        """Yields strips (n, width, bands), top to bottom; each belongs to one frame.

        Each call reads the file again.

        Raises:
            InputError: The file is truncated, damaged or no longer there.
        """
        with explained(self.name):
            yield from self.strips()


def open_image(source: Path | bytes) -> OpenedImage:
    """Opens an image file; the format is detected by the content, not by the name.

    Raises:
        InputError: The file is missing, truncated, not an image, or of an unsupported kind.
    """
    name = str(source) if isinstance(source, Path) else "standard input"
    with explained(name):
        kind, _ = kind_of(source)
        with open_binary(source) as file:
            found = examined(source, file, kind)
        if kind == "pnm":
            return _open_pnm(name, source)
        if kind == "bmp":
            return _open_bmp(name, source)
        if kind == "heic":
            return _with_texts(_open_heic(name, source, found), found)
        if kind == "gif":
            with open_binary(source) as file:
                require_whole_gif(file)
        if kind == "jpeg":
            source, notes = checked_jpeg(source)
            found = found._replace(notes=found.notes + notes)
        return _with_texts(_open_vips(name, source, kind, found), found)


def _with_texts(image: OpenedImage, found: Structure) -> OpenedImage:
    """Adds the texts of the file, and EXIF's texts whose keywords the file does not have."""
    _, exif = image.metadata.get("exif-data", (0, b""))
    keywords = {text.keyword for text in found.texts}
    more = tuple(text for text in texts_of_exif(exif) if text.keyword not in keywords)
    return replace(image, texts=found.texts + more)


def _open_vips(name: str, source: Path | bytes, kind: str, found: Structure) -> OpenedImage:
    tiff = tiff_kind(source, found.options) if kind == "tiff" else None

    def opened(access: str) -> pyvips.Image:
        if tiff is not None:
            return load_tiff(source, tiff, access)
        return load_vips(source, kind, access=access, **found.options)

    raw = opened("sequential")
    notes = found.notes + dropped_description(raw)
    orientation = field(raw, "orientation", 1)
    # Rotation needs the end of the file first, so libvips decodes to memory or a temporary file.
    access = "sequential" if orientation in (1, 2) else "random"
    frames = field(raw, "n-pages", 1) if kind in ("webp", "gif") else 1
    pages = field(raw, "n-pages", 1)
    if pages > frames and kind != "tiff":
        notes += (f"only the first of the {pages} images in the file is used",)
    samples, geo = Samples(raw.bands), None
    if tiff is not None:
        with open_binary(source) as file:
            geo = read_geo(file, found.options)
        samples = samples_of(
            tiff, opened, nodata_of(geo, np.dtype(NUMPY_DTYPES.get(str(raw.format), np.float32)))
        )
    if geo is not None and orientation != 1:
        geo, notes = (
            None,
            (
                *notes,
                "it is rotated or mirrored by its orientation, so its georeference is dropped",
            ),
        )

    def frame_at(index: int) -> pyvips.Image:
        return upright(to_gray_or_rgb(frame(opened(access), samples, index))[0], frames)

    count = 1 + len(samples.further)
    still, more = to_gray_or_rgb(frame(raw, samples, 0))
    metadata = image_metadata(raw)
    if raw.interpretation not in PLAIN:  # the profile describes the colours before conversion
        metadata.pop("icc-profile-data", None)
    if kind == "tiff":
        with open_binary(source) as file:
            metadata |= exif_fields(read_tiff_exif(file))
    if raw.interpretation in PLAIN:
        with open_binary(source) as file:
            metadata, color_notes = with_color_profile(kind, file, metadata, still.bands)
            more += color_notes
    height, width = raw.height // frames, raw.width
    if kind == "heif":
        metadata = heif_metadata(metadata, found.orientation, (width, height))
    else:
        metadata = upright_metadata(metadata, orientation, (width, height), found.blobs)
    image = OpenedImage(
        name,
        *((width, height) if orientation >= 5 else (height, width)),
        still.bands,
        np.dtype(NUMPY_DTYPES[str(still.format)]),
        lambda: (strip for i in range(count) for strip in image_rows(frame_at(i), frames)),
        frames * count,
        notes + more,
        metadata,
        # libvips returns one pixel per millimetre if the file has no resolution.
        None if (raw.xres, raw.yres) == (1, 1) else (raw.xres, raw.yres),
        extra=samples.extra if count > 1 else (),
        geo=geo,
        nodata=samples.nodata,
    )
    return _in_range(image) if image.dtype == np.float32 else image


def _in_range(image: OpenedImage) -> OpenedImage:
    """Scales or clips the `strips` of a float image to [0, 1]; reads the file to find its range."""
    low, highest = 0.0, np.zeros(image.bands)
    for strip in image.rows():
        if not np.isfinite(strip).all():
            raise ValueError("it has values that are infinite or not a number; replace them first")
        low, highest = min(low, float(strip.min())), np.maximum(highest, strip.max(axis=(0, 1)))
    colors = image.bands - (image.bands in (2, 4))
    high, notes = float(highest[:colors].max()), image.notes
    white, alpha_white = _white(high), _white(float(highest[colors:].max(initial=0)))
    if high > 1:
        notes += (f"its values go up to {high:g}; {white:g} is taken as white",)
    if low < 0:
        notes += (f"values below 0 (down to {low:g}) are taken as 0",)

    scale = np.array([white] * colors + [alpha_white] * (image.bands - colors), np.float32)

    def strips() -> Iterator[np.ndarray]:
        for strip in image.strips():
            yield np.clip(strip / scale, 0, 1)

    return replace(image, strips=strips, notes=notes, white=white, alpha_white=alpha_white)


def _white(high: float) -> float:
    """Returns what floats up to `high` are divided by to be in [0, 1]."""
    known = next((float(white) for white in (1, HIGHEST_HDR, 255, 65535) if high <= white), high)
    return high if known == HIGHEST_HDR else known


def _array_rows(array: np.ndarray) -> Iterator[np.ndarray]:
    return (array[y : y + STRIP] for y in range(0, len(array), STRIP))


def _open_pnm(name: str, source: Path | bytes) -> OpenedImage:
    with open_binary(source) as file:
        header = read_pnm_header(file)
    strips = partial(pnm_rows, header, partial(open_binary, source), STRIP)
    return OpenedImage(name, header.height, header.width, header.bands, header.dtype, strips)


def _open_bmp(name: str, source: Path | bytes) -> OpenedImage:
    """Opens a BMP with Pillow's class, which unlike Image.open has no limit on the size."""

    def array() -> np.ndarray:
        with open_binary(source) as file:
            image = BmpImageFile(file)
            mode = {"1": "L", "P": "RGB"}.get(image.mode, image.mode)
            return np.atleast_3d(np.asarray(image.convert(mode)))

    with open_binary(source) as file:
        image = BmpImageFile(file)
        bands = {"1": 1, "L": 1, "RGBA": 4}.get(image.mode, 3)
        icc = bmp_profile(file)
        metadata: Metadata = {"icc-profile-data": (BLOB, icc)} if icc else {}
        metadata, notes = with_color_profile("bmp", file, metadata, bands)
    across, down = image.info.get("dpi", (0, 0))
    return OpenedImage(
        name, image.height, image.width, bands, np.dtype(np.uint8), lambda: _array_rows(array()),
        notes=notes,
        metadata=metadata,
        resolution=(across / 25.4, down / 25.4) if across and down else None,
    )  # fmt: skip


def _open_heic(name: str, source: Path | bytes, found: Structure) -> OpenedImage:
    file = open_heic(source)
    blobs = {"xmp-data": file.xmp, "icc-profile-data": file.icc}
    metadata = exif_fields(file.exif) | {k: (BLOB, v) for k, v in blobs.items() if v}
    notes = found.notes
    if file.images > 1:
        notes += (f"only the main one of the {file.images} images in the file is used",)
    with open_binary(source) as opened:
        metadata, color_notes = with_color_profile("heic", opened, metadata, file.bands)
    return OpenedImage(
        name,
        file.height,
        file.width,
        file.bands,
        file.dtype,
        lambda: _array_rows(file.pixels()),
        notes=notes + color_notes,
        metadata=heif_metadata(metadata, found.orientation, (file.width, file.height)),
    )
