"""Which file each picture or film of a command line becomes."""

import glob
from collections.abc import Sequence
from pathlib import Path

from esrgan_jax import film
from esrgan_jax.errors import InputError
from esrgan_jax.picture import SUFFIXES, find_pictures
from esrgan_jax.picture_reader import open_picture
from esrgan_jax.picture_writer import WRITABLE

STREAM = Path("-")  # standard input or output
MAYBE_ANIMATED = (".gif", ".webp")

Job = tuple[Path, Path]  # source and target


def plan(
    inputs: Sequence[Path], output: Path, *, suffix: str = "", extension: str | None = None
) -> list[Job]:
    """Which file each input becomes.

    Args:
        inputs: Pictures, films, folders, patterns such as `photos/**/*.png`, or `-`. A folder
            stands for all pictures in it and keeps its tree; films are taken where they are named.
        output: A file, for one picture or film, a folder, or `-`.
        suffix: Behind the name of every file in a folder: "_x4".
        extension: Of the pictures in a folder, such as ".jpg"; left out, .png, or .webp for
            animations. A film keeps its own, or becomes .mp4.

    Returns:
        (source, target) pairs, no two of one target.

    Raises:
        InputError: An input is missing, two would become one file, or one that is read would be
            overwritten.
    """
    found = [match for path in inputs for match in _matches(path)]
    jobs = _one(found, output) or [
        job for path in found for job in _into_folder(path, output, suffix, extension)
    ]
    sources = {source.resolve() for source, _ in jobs}
    origin: dict[Path, Path] = {}
    for source, target in jobs:
        if target != STREAM and target.resolve() in sources:
            raise InputError(
                f"{target} would overwrite a picture to be read; "
                "take another --output, or a --suffix such as _x4"
            )
        other = origin.setdefault(target, source)
        if other is not source:
            raise InputError(
                f"{other} and {source} would both be written to {target}; "
                "rename one or upscale them into two folders"
            )
    return jobs


def is_film(path: Path) -> bool:
    """Whether it is a film, by its name."""
    return path.suffix.lower() in film.SUFFIXES


def _matches(path: Path) -> list[Path]:
    if path == STREAM or path.exists():
        return [path]
    if not glob.has_magic(str(path)):
        raise InputError(f"no picture or folder {path}")
    known = (*SUFFIXES, *film.SUFFIXES)
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    files = [match for match in matches if match.is_file() and match.suffix.lower() in known]
    if not files:
        raise InputError(f"no picture matches {path}")
    return files


def _one(found: list[Path], output: Path) -> list[Job]:
    """The job of a single file or stream, none if the output is a folder."""
    ending = output.suffix.lower()
    if output.is_dir():
        return []
    if output != STREAM and ending not in (*WRITABLE, *film.WRITTEN):
        if output.is_file() or ending in (*SUFFIXES, *film.SUFFIXES):
            endings = ", ".join((*WRITABLE, *film.WRITTEN))
            raise InputError(f"--output={output}: files end in {endings}; or name a folder")
        return []
    if len(found) > 1 or found[0].is_dir():
        raise InputError(f"--output={output} is one file; name a folder for several pictures")
    (source,) = found
    if output != STREAM and is_film(source) != is_film(output):
        kinds = ("a film", "a picture") if is_film(source) else ("a picture", "a film")
        raise InputError(f"{source} is {kinds[0]} and {output} would be {kinds[1]}")
    if is_film(source) and output == STREAM:
        raise InputError(f"{source} is a film, which is written to a file: name one")
    return [(source, output)]


def _into_folder(path: Path, output: Path, suffix: str, extension: str | None) -> list[Job]:
    if path == STREAM:
        raise InputError("standard input becomes one file: name it with --output, or -")
    if not path.is_dir():
        return [(path, output / _renamed(Path(path.name), path, suffix, extension))]
    pictures = find_pictures(path)
    if output.resolve() == path.resolve():
        if not suffix:
            raise InputError(
                f"--output={output} is the input folder; "
                "take another one, or a --suffix such as _x4"
            )
        pictures = [p for p in pictures if not p.stem.endswith(suffix)]  # of an earlier run
    else:
        # Results of an earlier run inside the input folder are not upscaled a second time.
        pictures = [p for p in pictures if output.resolve() not in p.resolve().parents]
    return [(p, output / _renamed(p.relative_to(path), p, suffix, extension)) for p in pictures]


def _renamed(name: Path, source: Path, suffix: str, extension: str | None) -> Path:
    if is_film(source):
        own = source.suffix.lower()
        extension = own if own in film.WRITTEN else ".mp4"
    elif extension is None:
        extension = ".webp" if _is_animated(source) else ".png"
    return name.with_name(f"{name.stem}{suffix}{extension}")


def _is_animated(source: Path) -> bool:
    if source.suffix.lower() not in MAYBE_ANIMATED:
        return False
    try:
        return open_picture(source).frames > 1
    except InputError:  # said when its turn comes
        return False
