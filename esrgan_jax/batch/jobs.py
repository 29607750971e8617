"""Plans the output file of each input, and the size and format of the results."""

import glob
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from esrgan_jax import files
from esrgan_jax.batch.made_by import Setting
from esrgan_jax.errors import InputError, did_you_mean
from esrgan_jax.images.image_file import IMAGE_SUFFIXES, find_images
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import WRITABLE
from esrgan_jax.video import video_file
from esrgan_jax.video.detect import is_video

STREAM = Path("-")  # standard input or output
MAYBE_ANIMATED = (".gif", ".webp")

FILE_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{1,4}")  # .jxl, but not .2024 or .d of a folder

Job = tuple[Path, Path]  # (source, target)


class Scaling(Protocol):
    """An `Upscaler`, or anything with its scale."""

    @property
    def scale(self) -> int: ...


@dataclass(frozen=True)
class ResultOptions:
    """Size and format of the results.

    Attributes:
        scale: Size of the result over that of the input; None for the scale of the network.
        size: (width, height) instead of a scale; a side of 0 keeps the aspect.
        suffix: Format of standard output.
        depth: 8, 16 or 32 (floating point) bits per channel; None for those of the input.
        quality: 1 to 100 for images, a CRF for videos.
        lossless: Write losslessly if the format can.
        settings: All options that are not the default, as `made_by.make_record` takes them.
    """

    scale: float | None = None
    size: tuple[int, int] | None = None
    suffix: str = ".png"
    depth: int | None = None
    quality: int | None = None
    lossless: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict[str, Setting])

    def result_size(self, height: int, width: int, upscaler: Scaling) -> tuple[int, int]:
        """Returns (height, width) of the result of an image of height x width pixels."""
        from esrgan_jax.upscaling.upscaler import result_size

        size = result_size((height, width), self.scale, self.size)
        return size or (height * upscaler.scale, width * upscaler.scale)


class _Found(NamedTuple):
    """An image or video, and the folder or the fixed part of the pattern that it was found in."""

    path: Path
    root: Path | None = None  # None if it was named itself


def plan(
    inputs: Sequence[Path],
    output: Path,
    *,
    suffix: str = "",
    extension: str | None = None,
    is_folder: bool = False,
) -> list[Job]:
    """Returns the target of each input.

    Args:
        inputs: Images, videos, folders, patterns such as `photos/**/*.png`, or `-`. A folder means
            all images in it; videos have to be named or match a pattern. Subfolders below a folder
            or below the fixed part of a pattern are kept.
        output: A file for one image or video, a folder, or `-`.
        suffix: Added to the name of every file in a folder: "_x4".
        extension: Suffix of the images or of the videos in a folder, such as ".jpg" or ".mkv". By
            default images become .png, animations .webp, and videos keep theirs or become .mp4.
        is_folder: The output is a folder, whatever its name is.

    Returns:
        (source, target) pairs with different targets. Results of an earlier run in the same folder
        are no sources.

    Raises:
        InputError: An input is missing, two inputs have the same target, an input would be
            overwritten, or the output cannot be written.
    """
    for path in (*inputs, output):
        _check_link(path)
    found = [match for path in inputs for match in _matches(path)]
    is_folder = is_folder or _is_folder(output, len(found) == 1 and found[0].root is None)
    _check_writable(output, is_folder)
    if not is_folder:
        if suffix or (extension and output != STREAM):
            raise InputError(f"--output={output} is one file: leave --suffix and --format out")
        return [_one(found, output)]
    if not suffix and any(os.path.isdir(path) and _same(path, output) for path in inputs):
        raise InputError(
            f"--output={output} is the input folder; choose another one, or a --suffix such as _x4"
        )
    jobs = [
        (item.path, output / _renamed(item, suffix, extension))
        for item in _without_results(found, output, suffix)
    ]
    jobs = list(dict.fromkeys(jobs))
    sources = {source.resolve() for source, _ in jobs}
    origin: dict[Path, Path] = {}
    for source, target in jobs:
        if target.resolve() in sources:
            raise _would_overwrite(target)
        if (other := origin.setdefault(target, source)) != source:
            raise InputError(
                f"{other} and {source} would both be written to {target}; "
                "rename one or upscale them to two folders"
            )
    return jobs


def noun(jobs: Sequence[Job]) -> Literal["image", "video", "file"]:
    """Returns what to call the jobs in messages; "file" if some are images and some videos."""
    videos = [target.suffix.lower() in video_file.WRITTEN for _, target in jobs]
    return "image" if not any(videos) else "video" if all(videos) else "file"


def _matches(path: Path) -> list[_Found]:
    """Returns the images and videos that an input names."""
    if os.path.isdir(path):
        return [_Found(image, path) for image in find_images(path)]
    if path == STREAM or os.path.exists(path):
        mode = stat.S_IFREG if path == STREAM else os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # it could be read only once
            kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
            raise InputError(f"{path} is {kind}, not a file; give - to read standard input")
        return [_Found(path)]
    if not glob.has_magic(str(path)):
        raise InputError(f"no image or folder {path}{files.near(path)}")
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    root = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
    known_files = [
        match
        for match in matches
        if os.path.isfile(match) and (match.suffix.lower() in IMAGE_SUFFIXES or is_video(match))
    ]
    if not known_files:
        raise InputError(f"no image matches {path}")
    # A link to a folder above would give each file again and again; the shortest path counts.
    shortest: dict[tuple[str, str], Path] = {}
    for match in sorted(known_files, key=lambda match: len(match.parts)):
        shortest.setdefault((os.path.realpath(match.parent), match.name), match)
    return [_Found(match, root) for match in sorted(shortest.values())]


def _check_link(path: Path) -> None:
    """Raises InputError if a path is a broken link."""
    if os.path.islink(path) and not os.path.exists(path):
        raise InputError(
            f"{path} is a link to {os.readlink(path)}, which does not exist or leads back to it"
        )


def _check_writable(output: Path, is_folder: bool) -> None:
    """Checks that the output can be written."""
    if output == STREAM:
        return
    folders = (output, *output.absolute().parents)[0 if is_folder else 1 :]
    if reason := files.too_long(output):
        raise InputError(f"--output={output}: {reason}")
    folder = next(path for path in folders if os.path.exists(path))
    if not os.path.isdir(folder):
        raise InputError(f"--output={output}: {folder} is a file, not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--output={output}: the folder {folder} is not writable")


def _is_folder(output: Path, one: bool) -> bool:
    """Returns whether an output is a folder: an existing one, or by its name.

    Args:
        one: Whether the only input is an image or video that was named itself.
    """
    if output == STREAM or os.path.isdir(output):
        return output != STREAM
    suffix = output.suffix.lower()
    writable = (*WRITABLE, *video_file.WRITTEN)
    if suffix in writable:
        return False
    suffixes = ", ".join(writable)
    if os.path.isfile(output) or suffix in (*IMAGE_SUFFIXES, *video_file.VIDEO_SUFFIXES):
        raise InputError(f"--output={output}: a file must end in {suffixes}; or name a folder")
    suggestion = did_you_mean(suffix, writable)
    if suggestion or (one and FILE_SUFFIX.fullmatch(suffix)):
        choose = suggestion or f" Choose one of {suffixes}."
        raise InputError(
            f"--output={output}: {suffix} is not supported.{choose} "
            "For a folder, add a / to the name"
        )
    return True


def _one(found: Sequence[_Found], output: Path) -> Job:
    """Returns the job of a single file or stream."""
    if len(found) > 1:
        raise InputError(f"--output={output} is one file; name a folder for several images")
    source = found[0].path
    if output == STREAM:
        if is_video(source):
            raise InputError(f"{source} is a video: name a file as --output, not standard output")
    elif is_video(source) != is_video(output):
        kinds = ("a video", "an image") if is_video(source) else ("an image", "a video")
        raise InputError(f"{source} is {kinds[0]} and {output} would be {kinds[1]}")
    elif _same(source, output):
        raise _would_overwrite(output)
    return source, output


def _without_results(found: Sequence[_Found], output: Path, suffix: str) -> Iterator[_Found]:
    """Yields all but the results of an earlier run, unless they were named themselves."""
    stems = {(item.path.parent, item.path.stem) for item in found}
    for item in found:
        path, stem = item.path, item.path.stem
        if item.root is not None:
            if _within(output, item.root) and _within(path, output):
                continue
            original = path.parent, stem.removesuffix(suffix)
            if suffix and stem.endswith(suffix) and original in stems and _same(output, item.root):
                continue
        yield item


def _renamed(item: _Found, suffix: str, extension: str | None) -> Path:
    """Returns the path of a result below the output folder."""
    path = item.path
    if path == STREAM:
        raise InputError("standard input becomes one file: name a file as --output, or -")
    if is_video(path):
        own = path.suffix.lower()
        own = own if own in video_file.WRITTEN else ".mp4"
        extension = extension if extension in video_file.WRITTEN else own
    elif extension not in WRITABLE:
        extension = ".webp" if _is_animated(path) else ".png"
    name = path.relative_to(item.root) if item.root is not None else Path(path.name)
    return name.with_name(f"{name.stem}{suffix}{extension}")


def _would_overwrite(target: Path) -> InputError:
    return InputError(
        f"{target} would overwrite an image to be read; "
        "choose another --output, or a --suffix such as _x4"
    )


def _same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _within(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def _is_animated(source: Path) -> bool:
    if source.suffix.lower() not in MAYBE_ANIMATED:
        return False
    try:
        return open_image(source).frames > 1
    except InputError:  # reported when it is upscaled
        return False
