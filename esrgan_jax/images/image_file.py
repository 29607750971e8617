"""Reads image files as 8-bit sRGB arrays, writes PNG files, and lists the images of a folder."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pyvips

from esrgan_jax.errors import InputError
from esrgan_jax.images.formats.jpeg_end import JPEG_DAMAGED, checked_jpeg
from esrgan_jax.images.inputs import kind_of
from esrgan_jax.images.metadata.fields import field
from esrgan_jax.images.reader import HIGHEST_HDR, open_image
from esrgan_jax.images.reasons import explained
from esrgan_jax.images.structure import examined
from esrgan_jax.images.vips import LOADERS, ErrorTextLock, load_vips
from esrgan_jax.images.writer import write_rows

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)

_error_text_lock = ErrorTextLock()


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image as 8-bit sRGB.

    The EXIF orientation is applied, gray is expanded to three channels, 16 bits, floats and CMYK
    are converted, and alpha is dropped. Of an animation only the first frame is read. Floats are
    levels, not linear light: white is 1, or 255 or 65535 if values are that large.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: The file is missing, truncated or not an image.
    """
    path = Path(os.path.expanduser(path))
    with explained(str(path)):
        try:
            with _error_text_lock.shared():
                return _pixels(path)
        except pyvips.Error:  # the reason may be another thread's: read once more, alone
            with _error_text_lock.exclusive():
                return _pixels(path, again=True)


def read_crop(
    path: str | os.PathLike[str], top: int, left: int, height: int, width: int
) -> np.ndarray:
    """Reads a part of an image: read_image(path)[top : top + height, left : left + width].

    PNG and JPEG are decoded only down to the last row of it. Damage below is not noticed.

    Returns:
        (height, width, 3) uint8.

    Raises:
        InputError: As for `read_image`.
    """
    path = Path(os.path.expanduser(path))
    with explained(str(path)):
        kind, _ = kind_of(path)
        # Otherwise, and after a warning that may be harmless, the whole image is read.
        if kind in ("png", "jpeg"):
            fail_on = "warning" if kind == "jpeg" else "error"
            with contextlib.suppress(pyvips.Error), _error_text_lock.shared():
                image = load_vips(path, kind, access="sequential", fail_on=fail_on)
                if field(image, "orientation", 1) == 1:
                    return _to_srgb8(image.crop(left, top, width, height))
    return read_image(path)[top : top + height, left : left + width]


def _pixels(path: Path, again: bool = False) -> np.ndarray:
    kind, _ = kind_of(path)
    if kind == "jpeg":
        # A warning may be about something harmless, so the second attempt examines the file.
        whole, options = (_whole_jpeg(path), {}) if again else (path, {"fail_on": "warning"})
        image = load_vips(whole, kind, **options).autorot()
    elif kind in LOADERS and (image := _first_frame(path, kind)).format != "float":
        image = image.autorot()
    else:
        opened = open_image(path)
        array = np.concatenate(list(opened.rows()))[: opened.height]
        if array.dtype == np.float32:  # libvips takes floats for linear light
            # Of HDR images, 1 is white in each, so that LR and HR have the same levels.
            brightest = opened.white if opened.white <= HIGHEST_HDR else 1
            array = np.rint(np.minimum(array * brightest, 1) * 255).astype(np.uint8)
        image = pyvips.Image.new_from_array(array)
    return _to_srgb8(image)


def _to_srgb8(image: pyvips.Image) -> np.ndarray:
    if image.interpretation in ("rgb16", "grey16"):  # libvips would truncate instead of round
        eight = "srgb" if image.interpretation == "rgb16" else "b-w"
        image = (image / 257).rint().cast("uchar").copy(interpretation=eight)
    return image.colourspace("srgb").cast("uchar").numpy()[..., :3].copy()


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Reads (height, width) in pixels from the header, as `read_image` would return them.

    Raises:
        InputError: The file is missing or its header is not that of an image.
    """
    path = Path(os.path.expanduser(path))
    with explained(str(path)):
        kind, _ = kind_of(path)
        if kind not in LOADERS:
            image = open_image(path)
            return image.height, image.width
        header = _first_frame(path, kind)
        sideways = field(header, "orientation", 1) >= 5
        return (header.width, header.height) if sideways else (header.height, header.width)


def write_image(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes a PNG to a temporary file and renames it, so the target is never incomplete.

    Args:
        path: Ends in `.png`; missing parent folders are made.
        array: (H, W, C) with 1 (gray), 3 (sRGB) or 4 (sRGB and alpha) channels, uint8 or uint16.

    Raises:
        InputError: `path` has another suffix or is a folder, or the array does not fit.
        RunError: The file cannot be written.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: images are written as PNG; use a name ending in .png")
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(
            f"{path}: an image must be (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}"
        )
    if array.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: an image must be uint8 or uint16, not {array.dtype}")
    height, width, bands = array.shape
    write_rows(path, [array], height=height, width=width, bands=bands, dtype=array.dtype)


def find_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Lists the images of a folder and its sub-folders, sorted by path.

    Links are followed; a folder that is reached more than once is listed once, under the name
    that sorts first. Hidden files and folders, and files with other suffixes, are skipped.

    Raises:
        InputError: The folder is missing or has no image in it, or a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be listed: {error.strerror}; make it readable, or name the "
            "others"
        )

    folder = Path(os.path.expanduser(folder))
    if not folder.is_dir():
        raise InputError(f"{folder}: {'is not a' if folder.exists() else 'no such'} folder")
    found, seen = [], set()
    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(parent)
        # Otherwise a link to a parent would be followed endlessly.
        folders[:] = [] if real in seen else sorted(name for name in folders if name[0] != ".")
        files = [] if real in seen else files
        seen.add(real)
        found += [
            Path(parent, name)
            for name in files
            if name[0] != "." and name.lower().endswith(IMAGE_SUFFIXES)
        ]
    if not found:
        raise InputError(f"{folder}: no image in it; known are {', '.join(IMAGE_SUFFIXES)}")
    return sorted(found)


def _whole_jpeg(path: Path) -> Path | bytes:
    """Returns a JPEG with its end completed; raises ValueError if its pixels are damaged."""
    source, notes = checked_jpeg(path)
    for note in notes:
        if note.startswith(JPEG_DAMAGED):
            raise ValueError(note)
    return source


def _first_frame(path: Path, kind: str) -> pyvips.Image:
    with path.open("rb") as file:
        found = examined(path, file, kind)
    return load_vips(path, kind, **found.options, **({"n": 1} if "n" in LOADERS[kind] else {}))
