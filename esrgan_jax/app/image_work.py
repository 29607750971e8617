"""Upscales an uploaded image of the page into a file."""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from esrgan_jax.app.previews import PreviewParts
from esrgan_jax.app.watched import PageReport, Watched
from esrgan_jax.batch.jobs import ResultOptions, is_video
from esrgan_jax.batch.upscale_images import upscale_files
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.image_file import image_size
from esrgan_jax.images.reader import OpenedImage, open_image
from esrgan_jax.images.writer import WRITABLE

MEGA = 10**6
LONGEST_STEM = 150  # bytes of a file's name without its suffix, which leaves room for "_x4"


@dataclass(frozen=True)
class Limits:
    """Largest sizes that the page accepts.

    Attributes:
        megapixels: Of an image; the frames of an animation add up.
        result_megapixels: Of a result, likewise.
        megabytes: Of an uploaded file.
    """

    megapixels: float
    result_megapixels: float
    megabytes: float


def open_within(path: Path, limits: Limits) -> OpenedImage:
    """Opens an uploaded image; InputError if it is not an image or has too many pixels."""
    size = 0
    if is_video(path):
        raise InputError(f"{path.name}: is a video; python -m esrgan_jax.upscale takes videos")
    with suppress(InputError):  # it knows fewer formats than `open_image`
        height, width = image_size(path)  # reads the header only; opening may decode everything
        size = height * width
    _check_pixels(path, size, limits)
    image = open_image(path)
    _check_pixels(path, image.height * image.width * image.frames, limits)
    return image


def _check_pixels(path: Path, pixels: int, limits: Limits) -> None:
    if pixels > limits.megapixels * MEGA:
        raise InputError(
            f"{path.name}: has {pixels / MEGA:.4g} megapixels, and this app takes up to "
            f"{limits.megapixels:g}; reduce it, or start the app with --max_megapixels"
        )


def target_name(name: str, height: int, result_height: int, suffix: str) -> str:
    """Returns the name of a result, such as "photo_x4.png"."""
    return f"{Path(name).stem}_x{result_height / height:.3g}{suffix}"


def safe_name(name: str) -> str:
    """Returns an uploaded file's name without folders, control characters and excess length."""
    name = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = re.sub(r"[\x00-\x1f\x7f]", "_", name).strip(". ").rpartition(".")
    if not (stem and suffix.isalnum() and len(suffix) < 12):
        stem, dot, suffix = stem + dot + suffix, "", ""
    stem = stem.encode(errors="replace")[:LONGEST_STEM].decode(errors="ignore").strip(". ")
    return f"{stem or 'image'}{dot}{suffix}"


def suffix_for(kind: str, image: OpenedImage) -> str:
    """Returns a result's suffix: the chosen one, or for "" the one that fits the image."""
    if kind not in ("", *WRITABLE):
        raise InputError(f"{kind}: is not one of the formats to choose from")
    if image.extra:  # bands in addition to the colours
        return kind or ".tif"
    return kind or (".webp" if image.frames > 1 else ".png")


def upscale_image(
    upscaler: Watched,
    image: OpenedImage,
    source: Path,
    folder: Path,
    options: ResultOptions,
    limits: Limits,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    part: Callable[[float, float, Path], None] | None = None,
    stop: threading.Event | None = None,
) -> tuple[Path, list[str]]:
    """Upscales one image into a file, as the upscale command does.

    Args:
        upscaler: The network.
        image: The opened image.
        source: The image's file.
        folder: Folder of the result, which is named after the image.
        options: The result's size, format, depth and quality.
        limits: Largest sizes.
        progress: Called with (finished, total) pixels of the result.
        part: Called with each finished part, see `PreviewParts`.
        stop: Once set, the work ends with `StoppedByUser`.

    Returns:
        The result's file, and notes for the user.

    Raises:
        InputError: The result would be too large, or the format cannot hold it.
        RunError: It cannot be written, or the network's result is not finite.
    """
    height, width = options.result_size(image.height, image.width, upscaler)
    # The network's own result is computed before it is resized.
    computed = image.height * image.width * upscaler.scale**2
    pixels = max(height * width, computed) * image.frames
    if pixels > limits.result_megapixels * MEGA:
        raise InputError(
            f"the result would have {pixels / MEGA:.4g} megapixels, and this app makes up to "
            f"{limits.result_megapixels:g}; choose a smaller image, scale or network, or start the "
            "app with --max_result_megapixels"
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / target_name(source.name, image.height, height, options.suffix)
    watch = PageReport(progress, stop or threading.Event())
    if part is not None:
        profile = image.metadata.get("icc-profile-data", (None, None))[1]
        upscaler.seen = PreviewParts(lambda name: folder / name, profile, part).add
    try:
        upscale_files(upscaler, [(source, target)], options, watch)
    except BaseException:
        target.unlink(missing_ok=True)  # stopped after it was written
        raise
    if isinstance(watch.problem, InputError | RunError):
        raise watch.problem
    if watch.problem is not None or not target.is_file():
        raise RunError(str(watch.problem or f"{source.name}: has no result"))
    return target, watch.notes


def progress_line(done: float, total: int, seconds: float) -> str:
    """Returns a line such as "1.20 of 4.80 megapixels, 00:36 left"."""
    if not done:
        return f"{total / MEGA:.2f} megapixels to compute"
    left = tqdm.format_interval(seconds * (total - done) / done)
    return f"{done / MEGA:.2f} of {total / MEGA:.2f} megapixels, {left} left"


def summary(image: OpenedImage, result: OpenedImage, seconds: float) -> str:
    """Returns a line on the sizes, channels and bits of a result and the time that it took."""
    bits = {"u": f"{8 * result.dtype.itemsize} bits", "f": "floating point"}[result.dtype.kind]
    channels = ("gray", "gray with transparency", "RGB", "RGB with transparency")[result.bands - 1]
    return (
        f"{image.width}×{image.height} to {result.width}×{result.height} pixels, "
        f"{channels}, {bits}, in {tqdm.format_interval(seconds)}"
    )


def without_folders(error: BaseException, folder: Path) -> str:
    """Returns an error's message with the names, not the paths, of files in the app's folder."""
    return re.sub(re.escape(str(folder)) + r"/(?:[^/\s]+/)*", "", str(error))
