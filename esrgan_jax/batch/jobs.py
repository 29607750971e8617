"""Plans which output file each input becomes, and its size and format."""

import glob
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from esrgan_jax import files
from esrgan_jax.errors import InputError, did_you_mean
from esrgan_jax.images.image_file import SUFFIXES, find_images
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import WRITABLE
from esrgan_jax.video import video_file
from esrgan_jax.video.detect import is_video

STREAM = Path("-")  # standard input or output
MAYBE_ANIMATED = (".gif", ".webp")

FILE_ENDING = re.compile(r"\.[a-z][a-z0-9]{1,4}")  # .jxl, but not .2024 or .d, as of folders

Job = tuple[Path, Path]  # source and target


@dataclass(frozen=True)
class ResultOptions:
    """What the results shall be.

    Attributes:
        scale: Of the result over the input; None for the network's.
        size: (width, height) instead, a side of 0 follows from the other.
        suffix: The format of standard output.
        depth: 8, 16 or 32 (floating point) bits; None for the input's.
        quality: 1 to 100, for formats that have it.
        lossless: Where the format can.
        settings: What else was asked for, with all of the above, as `made_by.make_record` takes it.
    """

    scale: float | None = None
    size: tuple[int, int] | None = None
    suffix: str = ".png"
    depth: int | None = None
    quality: int | None = None
    lossless: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def result_size(self, height: int, width: int, upscaler: Any) -> tuple[int, int]:
        """(height, width) of an image's result."""
        from esrgan_jax.upscaling.upscaler import result_size

        wished = result_size((height, width), self.scale, self.size)
        return wished or (height * upscaler.scale, width * upscaler.scale)


class _Found(NamedTuple):
    """An image or video, and the folder or the start of the pattern that it was found in."""

    path: Path
    root: Path | None = None  # none where it was named


def plan(
    inputs: Sequence[Path],
    output: Path,
    *,
    suffix: str = "",
    extension: str | None = None,
    is_folder: bool = False,
) -> list[Job]:
    """Which file each input becomes.

    Args:
        inputs: Images, videos, folders, patterns such as `photos/**/*.png`, or `-`. A folder
            stands for all images in it; videos are taken where they are named. The tree of a
            folder, or of what a pattern leaves open, is kept.
        output: A file, for one image or video, a folder, or `-`.
        suffix: Behind the name of every file in a folder: "_x4".
        extension: Of the images, or of the videos, in a folder, such as ".jpg" or ".mkv"; left
            out, .png, or .webp for animations. A video keeps its own, or becomes .mp4.
        is_folder: The output is a folder whatever its name looks like.

    Returns:
        (source, target) pairs, no two of one target. What an earlier run wrote into the same
        folder is no source.

    Raises:
        InputError: An input is missing, two would become one file, one that is read would be
            overwritten, or nothing can be written there.
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
            f"--output={output} is the input folder; take another one, or a --suffix such as _x4"
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
            raise _overwriting(target)
        if (other := origin.setdefault(target, source)) != source:
            raise InputError(
                f"{other} and {source} would both be written to {target}; "
                "rename one or upscale them into two folders"
            )
    return jobs


def _matches(path: Path) -> list[_Found]:
    if os.path.isdir(path):
        return [_Found(image, path) for image in find_images(path)]
    if path == STREAM or os.path.exists(path):
        if path != STREAM and stat.S_ISCHR(os.stat(path).st_mode):
            raise InputError(f"{path} is a device, not a file; standard input is -")
        return [_Found(path)]
    if not glob.has_magic(str(path)):
        raise InputError(f"no image or folder {path}{files.near(path)}")
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    root = next(parent for parent in path.parents if not glob.has_magic(str(parent)))
    known_files = [
        match
        for match in matches
        if os.path.isfile(match) and (match.suffix.lower() in SUFFIXES or is_video(match))
    ]
    if not known_files:
        raise InputError(f"no image matches {path}")
    return [_Found(match, root) for match in known_files]


def _check_link(path: Path) -> None:
    """InputError if a path is a link that leads nowhere."""
    if os.path.islink(path) and not os.path.exists(path):
        raise InputError(
            f"{path} is a link to {os.readlink(path)}, which does not exist or leads back to it"
        )


def _check_writable(output: Path, is_folder: bool) -> None:
    """Before the work and not after it."""
    if output == STREAM:
        return
    places = (output, *output.absolute().parents)[0 if is_folder else 1 :]
    if reason := files.too_long(output):
        raise InputError(f"--output={output}: {reason}")
    folder = next(place for place in places if os.path.exists(place))
    if not os.path.isdir(folder):
        raise InputError(f"--output={output}: {folder} is a file and no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--output={output}: the folder {folder} is not writable")


def _is_folder(output: Path, one: bool) -> bool:
    """Whether an output is a folder, there or to be made, by its name.

    Args:
        one: It is for one image or video that was named.
    """
    if output == STREAM or os.path.isdir(output):
        return output != STREAM
    ending = output.suffix.lower()
    if ending in (*WRITABLE, *video_file.WRITTEN):
        return False
    written = (*WRITABLE, *video_file.WRITTEN)
    endings = ", ".join(written)
    if os.path.isfile(output) or ending in (*SUFFIXES, *video_file.VIDEO_SUFFIXES):
        raise InputError(f"--output={output}: files end in {endings}; or name a folder")
    meant = did_you_mean(ending, written)
    if meant or (one and FILE_ENDING.fullmatch(ending)):
        choose = meant or f" Choose of {endings}."
        raise InputError(
            f"--output={output}: no file is written as {ending}.{choose} "
            "If it shall be a folder, put a / behind it"
        )
    return True


def _one(found: Sequence[_Found], output: Path) -> Job:
    """The job of a single file or stream."""
    if len(found) > 1:
        raise InputError(f"--output={output} is one file; name a folder for several images")
    source = found[0].path
    if output == STREAM:
        if is_video(source):
            raise InputError(f"{source} is a video, which is written to a file: name one")
    elif is_video(source) != is_video(output):
        kinds = ("a video", "an image") if is_video(source) else ("an image", "a video")
        raise InputError(f"{source} is {kinds[0]} and {output} would be {kinds[1]}")
    elif _same(source, output):
        raise _overwriting(output)
    return source, output


def _without_results(found: Sequence[_Found], output: Path, suffix: str) -> Iterator[_Found]:
    """All but what an earlier run wrote where it found its images; what is named is meant."""
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
    path = item.path
    if path == STREAM:
        raise InputError("standard input becomes one file: name it with --output, or -")
    if is_video(path):
        own = path.suffix.lower()
        own = own if own in video_file.WRITTEN else ".mp4"
        extension = extension if extension in video_file.WRITTEN else own
    elif extension not in WRITABLE:
        extension = ".webp" if _is_animated(path) else ".png"
    name = path.relative_to(item.root) if item.root is not None else Path(path.name)
    return name.with_name(f"{name.stem}{suffix}{extension}")


def _overwriting(target: Path) -> InputError:
    return InputError(
        f"{target} would overwrite an image to be read; "
        "take another --output, or a --suffix such as _x4"
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
    except InputError:  # said when its turn comes
        return False
