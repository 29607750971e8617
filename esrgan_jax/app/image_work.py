"""Upscales one image for the page, from its uploaded file to the file of its result."""

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from esrgan_jax.app.previews import Parts
from esrgan_jax.app.watched import Watch, Watched
from esrgan_jax.batch.jobs import ResultOptions, is_video
from esrgan_jax.batch.upscale_images import upscale_files
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.image_file import image_size
from esrgan_jax.images.reader import OpenedImage, open_image
from esrgan_jax.images.writer import WRITABLE

MEGA = 10**6
LONGEST_NAME = 150  # bytes of a file's name without its ending, so that there is room for "_x4"


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        megapixels: Of an image that is given, all frames of an animation together.
        result_megapixels: Of what is made of it.
        megabytes: Of any file that is given.
    """

    megapixels: float
    result_megapixels: float
    megabytes: float


def open_within(path: Path, limits: Limits) -> OpenedImage:
    """An uploaded image; InputError if it is none, or has too many pixels."""
    size = 0
    if is_video(path):
        raise InputError(f"{path.name}: is a video; python -m esrgan_jax.upscale takes videos")
    with suppress(InputError):  # what it says of a kind that training does not read
        height, width = image_size(path)  # of the header alone: opening may read all of it
        size = height * width
    _check_pixels(path, size, limits)
    image = open_image(path)
    _check_pixels(path, image.height * image.width * image.frames, limits)
    return image


def _check_pixels(path: Path, pixels: int, limits: Limits) -> None:
    if pixels > limits.megapixels * MEGA:
        raise InputError(
            f"{path.name}: has {pixels / MEGA:.4g} megapixels, and this app takes up to "
            f"{limits.megapixels:g}; make it smaller, or start the app with --max_megapixels"
        )


def target_name(name: str, height: int, result_height: int, suffix: str) -> str:
    """Such as "photo_x4.png"."""
    return f"{Path(name).stem}_x{result_height / height:.3g}{suffix}"


def safe_name(name: str) -> str:
    """What a user's file is called here: its own name, if that is one for a file."""
    name = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = re.sub(r"[\x00-\x1f\x7f]", "_", name).strip(". ").rpartition(".")
    if not (stem and suffix.isalnum() and len(suffix) < 12):
        stem, dot, suffix = stem + dot + suffix, "", ""
    stem = stem.encode(errors="replace")[:LONGEST_NAME].decode(errors="ignore").strip(". ")
    return f"{stem or 'image'}{dot}{suffix}"


def suffix_for(kind: str, image: OpenedImage) -> str:
    """The ending of a result: that of a kind, or as the command chooses it."""
    if kind not in ("", *WRITABLE):
        raise InputError(f"{kind}: is not one of the formats to choose from")
    if image.extra:  # bands beside the colours
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
    told: Callable[[int, int], None] = lambda done, total: None,
    part: Callable[[float, float, Path], None] | None = None,
    stop: threading.Event | None = None,
) -> tuple[Path, list[str]]:
    """Upscales one image into a file, as the upscale command does it.

    Args:
        upscaler: The network.
        image: As opened, for its size.
        source: Its file.
        folder: Where the result is made, named after the image.
        options: Its size, format, depth and quality.
        limits: What is refused.
        told: Called with the pixels of the result that are done, and that there are.
        part: Called with each finished part, see `Parts`.
        stop: Once set, the work ends with `Stopped`.

    Returns:
        The file, and what the user should be told of it.

    Raises:
        InputError: The result would be too large, or is nothing that the format holds.
        RunError: It cannot be written, or the network's result is not finite.
    """
    height, width = options.result_size(image.height, image.width, upscaler)
    # The network's own result is computed first, whatever is made of it.
    made = image.height * image.width * upscaler.scale**2
    pixels = max(height * width, made) * image.frames
    if pixels > limits.result_megapixels * MEGA:
        raise InputError(
            f"the result would have {pixels / MEGA:.4g} megapixels, and this app makes up to "
            f"{limits.result_megapixels:g}; take a smaller image, scale or network, or start the "
            "app with --max_result_megapixels"
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / target_name(source.name, image.height, height, options.suffix)
    watch = Watch(told, stop or threading.Event())
    if part is not None:
        profile = image.metadata.get("icc-profile-data", (None, None))[1]
        upscaler.seen = Parts(lambda name: folder / name, profile, part).add
    try:
        upscale_files(upscaler, [(source, target)], options, watch)
    except BaseException:
        target.unlink(missing_ok=True)  # stopped when it was written already
        raise
    if isinstance(watch.problem, InputError | RunError):
        raise watch.problem
    if watch.problem is not None or not target.is_file():
        raise RunError(str(watch.problem or f"{source.name}: nothing was made of it"))
    return target, watch.notes


def progress_line(done: float, total: int, seconds: float) -> str:
    """Such as "1.2 of 4.8 megapixels, 00:36 left"."""
    if not done:
        return f"{total / MEGA:.2f} megapixels to compute"
    left = tqdm.format_interval(seconds * (total - done) / done)
    return f"{done / MEGA:.2f} of {total / MEGA:.2f} megapixels, {left} left"


def summary(image: OpenedImage, result: OpenedImage, seconds: float) -> str:
    """What became of an image, in a line."""
    bits = {"u": f"{8 * result.dtype.itemsize} bits", "f": "floating point"}[result.dtype.kind]
    channels = ("gray", "gray with transparency", "RGB", "RGB with transparency")[result.bands - 1]
    return (
        f"{image.width}×{image.height} to {result.width}×{result.height} pixels, "
        f"{channels}, {bits}, in {tqdm.format_interval(seconds)}"
    )


def plainly(error: BaseException, folder: Path) -> str:
    """An error's sentence with files of the app's folder called what the user calls them."""
    return re.sub(re.escape(str(folder)) + r"/(?:[^/\s]+/)*", "", str(error))
