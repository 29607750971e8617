"""Reads image files through libvips: as gray or RGB, upright, in strips."""

import logging
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import UnidentifiedImageError

from esrgan_jax.images.metadata.fields import field

pyvips.cache_set_max(0)  # it would give back the old pixels of a file written anew
logging.getLogger("pyvips").setLevel(logging.ERROR)  # its warnings name no file, our errors do

STRIP = 64  # rows
# What libraries say of a file that is cut off, or has other bytes in its midst.
NUMPY_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float32}
PLAIN = ("b-w", "grey16", "srgb", "rgb16", "rgb", "scrgb", "multiband")
# Options of libvips' loaders. Its size limits are meant for servers, so they are off.
LOADERS: dict[str, dict[str, Any]] = {
    "png": {"unlimited": True},
    "jpeg": {},
    "webp": {"n": -1},
    "gif": {"n": -1},
    "tiff": {"unlimited": True, "fail_on": "warning"},  # of less, tiles that are cut off are black
    "heif": {"unlimited": True},
}


def load_vips(source: Path | bytes, kind: str, **options: Any) -> pyvips.Image:
    """libvips' image of a file of a known kind, nothing converted yet."""
    # "error" includes "truncated"; with that alone half a TIFF is filled up with black.
    options = {"fail_on": "error", **LOADERS[kind], **options}
    if isinstance(source, Path) and not in_utf8(source):
        with source.open("rb") as file:  # of which libvips takes a copy
            stream = pyvips.Source.new_from_descriptor(file.fileno())
        return getattr(pyvips.Image, f"{kind}load_source")(stream, **options)
    suffix, what = ("_buffer", source) if isinstance(source, bytes) else ("", str(source))
    return getattr(pyvips.Image, f"{kind}load{suffix}")(what, **options)


def save(image: pyvips.Image, saver: str, path: Path, **options: Any) -> None:
    """Writes a file as the saver of a format does."""
    if in_utf8(path):
        getattr(image, f"{saver}save")(str(path), **options)
        return
    with path.open("w+b") as file:
        stream = pyvips.Target.new_to_descriptor(file.fileno())
        getattr(image, f"{saver}save_target")(stream, **options)


def in_utf8(path: Path) -> bool:
    """Whether pyvips can tell libvips of a path, and read its errors, which name it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


class ErrorTextLock:
    """libvips has one text of errors for all threads: many read at once, or one alone."""

    def __init__(self) -> None:
        self._reading = 0
        self._changed = threading.Condition()

    @contextmanager
    def shared(self) -> Generator[None]:
        """Beside others, so that the text of an error may be another thread's."""
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
        """When nobody else reads, with what others left of the text removed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._reading)
            pyvips.vips_lib.vips_error_clear()
            yield


def to_gray_or_rgb(image: pyvips.Image) -> tuple[pyvips.Image, tuple[str, ...]]:
    """Gray or RGB, with or without alpha, 8 or 16 bits or float; and notes on what was lost."""
    notes, space, deep = (), image.interpretation, image.format != "uchar"
    if space not in PLAIN or image.coding != "none":
        # A profile that libvips does not understand is passed over by `colourspace`.
        if space == "cmyk" and image.get_typeof("icc-profile-data"):
            image = image.icc_transform(
                "srgb", embedded=True, black_point_compensation=True, depth=16 if deep else 8
            )
            notes = ("CMYK was converted to sRGB by its colour profile",)
        elif space in ("lab", "labs"):  # of D50, as in print and ICC; for libvips it is of D65
            lab = image.colourspace("lab")
            image = lab.icc_export(pcs="lab", output_profile="srgb", intent="relative", depth=16)
            notes = ("Lab was converted to sRGB",)
        else:
            image = image.colourspace("rgb16" if deep else "srgb")
            notes = (f"{'CMYK' if space == 'cmyk' else space} was converted to sRGB",)
    if image.bands > 4:
        raise ValueError(f"it has {image.bands} channels, and images have 1 to 4")
    if image.format not in NUMPY_DTYPES:
        raise ValueError(
            f"its values are of the type {image.format}; convert it to unsigned 8- or 16-bit "
            "integers or to floating point"
        )
    bits = field(image, "bits-per-sample", 16)
    if image.get_typeof("heif-compression") and 8 < bits < 16:  # shifted up, but white is 65535
        image = (image * (65535 / (65536 - (1 << (16 - bits))))).rint().cast("ushort")
    return image.cast("float") if image.format == "double" else image, notes


def upright(image: pyvips.Image, frames: int) -> pyvips.Image:
    if field(image, "orientation", 1) == 1:
        return image
    height = image.height // frames
    turned = [image.crop(0, i * height, image.width, height).autorot() for i in range(frames)]
    return turned[0] if frames == 1 else pyvips.Image.arrayjoin(turned, across=1)


def image_rows(image: pyvips.Image, frames: int) -> Iterator[np.ndarray]:
    region, height = pyvips.Region.new(image), image.height // frames
    for top in range(0, image.height, height):
        for y in range(top, top + height, STRIP):
            n = min(STRIP, top + height - y)
            strip = np.frombuffer(
                region.fetch(0, y, image.width, n), NUMPY_DTYPES[str(image.format)]
            )
            yield strip.reshape(n, image.width, image.bands)


def reason(error: BaseException) -> str:
    """The line of an error that says most: libvips' own, without its preamble."""
    if isinstance(error, pyvips.Error):
        lines = [line.strip() for line in (error.detail or "").splitlines()]
        lines = [line for line in lines if line and line[0] != "("]  # libheif's numbers
        lines = [line for line in lines if not line.endswith("load: load error")] or lines
        nothing = "unable to fetch from region"  # libvips' words where a decoder has none
        said = lines[-1] if lines else error.message
        return "it is truncated or damaged" if said == nothing else said
    if isinstance(error, UnidentifiedImageError):
        return "not a known format"
    return getattr(error, "strerror", None) or str(error)
