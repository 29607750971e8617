"""Reads and writes image files through libvips: gray or RGB, upright, in strips."""

import logging
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyvips
from PIL import UnidentifiedImageError

from esrgan_jax.images.metadata.fields import field

pyvips.cache_set_max(0)  # the cache would return the old pixels of an overwritten file
logging.getLogger("pyvips").setLevel(
    logging.ERROR
)  # its warnings do not name the file, our errors do

STRIP = 64  # rows
# NumPy's types for libvips' formats; double is converted to float.
NUMPY_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float32}
PLAIN = ("b-w", "grey16", "srgb", "rgb16", "rgb", "scrgb", "multiband")
# Options of libvips' loaders. The size limits are meant for servers, so they are off.
LOADERS: dict[str, dict[str, bool | int | str]] = {
    "png": {"unlimited": True},
    "jpeg": {},
    "webp": {"n": -1},
    "gif": {"n": -1},
    "tiff": {"unlimited": True, "fail_on": "warning"},  # with "error", truncated tiles are black
    "heif": {"unlimited": True},
}


def load_vips(source: Path | bytes, kind: str, **options: object) -> pyvips.Image:
    """Opens a file with the loader of its format, without any conversion.

    Args:
        source: The file or its content.
        kind: The format, a key of LOADERS.
        options: Options of libvips' loader, in addition to those in LOADERS.

    Raises:
        pyvips.Error: The file is damaged or truncated, as far as the header shows.
    """
    # "error" includes "truncated", which alone would fill the missing half of a TIFF with black.
    options = {"fail_on": "error", **LOADERS[kind], **options}
    if isinstance(source, Path) and not in_utf8(source):
        with source.open("rb") as file:  # libvips duplicates the descriptor
            stream = pyvips.Source.new_from_descriptor(file.fileno())
        return getattr(pyvips.Image, f"{kind}load_source")(stream, **options)
    suffix, what = ("_buffer", source) if isinstance(source, bytes) else ("", str(source))
    return getattr(pyvips.Image, f"{kind}load{suffix}")(what, **options)


def save(image: pyvips.Image, saver: str, path: Path, **options: object) -> None:
    """Writes an image to a file with one of libvips' savers, such as "png"."""
    if in_utf8(path):
        getattr(image, f"{saver}save")(str(path), **options)
        return
    with path.open("w+b") as file:
        stream = pyvips.Target.new_to_descriptor(file.fileno())
        getattr(image, f"{saver}save_target")(stream, **options)


def in_utf8(path: Path) -> bool:
    """Whether a path can be encoded in UTF-8, as pyvips needs for the path and for errors."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


class ErrorTextLock:
    """Guards libvips' error text, which all threads share: many readers at once, or one alone."""

    def __init__(self) -> None:
        self._reading = 0
        self._changed = threading.Condition()

    @contextmanager
    def shared(self) -> Generator[None]:
        """Allows other readers, so an error text may be another thread's."""
        with self._changed:
            self._reading += 1
        try:
            yield
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Waits until nobody else reads and clears the error text, so it is this thread's."""
        with self._changed:
            self._changed.wait_for(lambda: not self._reading)
            pyvips.vips_lib.vips_error_clear()
            yield


def to_gray_or_rgb(image: pyvips.Image) -> tuple[pyvips.Image, tuple[str, ...]]:
    """Converts to gray or RGB of 8 or 16 bits or float32, and returns notes on the conversion.

    Alpha is kept.

    Raises:
        ValueError: It has more than four channels, or values of another type.
    """
    notes, space, deep = (), image.interpretation, image.format != "uchar"
    if space not in PLAIN or image.coding != "none":
        # `colourspace` ignores profiles that libvips does not understand.
        if space == "cmyk" and image.get_typeof("icc-profile-data"):
            image = image.icc_transform(
                "srgb", embedded=True, black_point_compensation=True, depth=16 if deep else 8
            )
            notes = ("CMYK was converted to sRGB by its colour profile",)
        elif space in ("lab", "labs"):  # of D50, as in print and ICC; libvips takes it as D65
            lab = image.colourspace("lab")
            image = lab.icc_export(pcs="lab", output_profile="srgb", intent="relative", depth=16)
            notes = ("Lab was converted to sRGB",)
        else:
            image = image.colourspace("rgb16" if deep else "srgb")
            notes = (f"{'CMYK' if space == 'cmyk' else space} was converted to sRGB",)
    if image.bands > 4:
        raise ValueError(f"it has {image.bands} channels; images have 1 to 4")
    if image.format not in NUMPY_DTYPES:
        raise ValueError(
            f"its values are of the type {image.format}; convert it to unsigned 8- or 16-bit "
            "integers or to floating point"
        )
    bits = field(image, "bits-per-sample", 16)
    if (
        image.get_typeof("heif-compression") and 8 < bits < 16
    ):  # shifted, so that white is below 65535
        image = (image * (65535 / (65536 - (1 << (16 - bits))))).rint().cast("ushort")
    return image.cast("float") if image.format == "double" else image, notes


def upright(image: pyvips.Image, frames: int) -> pyvips.Image:
    """Applies the EXIF orientation to each of the frames, which are stacked vertically."""
    if field(image, "orientation", 1) == 1:
        return image
    height = image.height // frames
    turned = [image.crop(0, i * height, image.width, height).autorot() for i in range(frames)]
    return turned[0] if frames == 1 else pyvips.Image.arrayjoin(turned, across=1)


def image_rows(image: pyvips.Image, frames: int) -> Iterator[np.ndarray]:
    """Yields strips (n, width, bands) of up to STRIP rows, none of which crosses two frames."""
    region, height = pyvips.Region.new(image), image.height // frames
    for top in range(0, image.height, height):
        for y in range(top, top + height, STRIP):
            n = min(STRIP, top + height - y)
            strip = np.frombuffer(
                region.fetch(0, y, image.width, n), NUMPY_DTYPES[str(image.format)]
            )
            yield strip.reshape(n, image.width, image.bands)


def reason(error: BaseException) -> str:
    """Returns the most informative line of an error: libvips' last one, without its preamble."""
    if isinstance(error, pyvips.Error):
        lines = [line.strip() for line in (error.detail or "").splitlines()]
        lines = [line for line in lines if line and line[0] != "("]  # libheif's error numbers
        lines = [line for line in lines if not line.endswith("load: load error")] or lines
        line = lines[-1] if lines else error.message
        # libvips says this if the decoder itself gives no reason.
        return "it is truncated or damaged" if line == "unable to fetch from region" else line
    if isinstance(error, UnidentifiedImageError):
        return "not a known format"
    return getattr(error, "strerror", None) or str(error)
