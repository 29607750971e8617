"""Counts the files of a folder that are not upscaled: videos, raw files, other formats."""

import os
from collections import Counter
from pathlib import Path

from esrgan_jax.images.image_file import IMAGE_SUFFIXES
from esrgan_jax.video.detect import is_video

RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srw", ".x3f"),
)
OTHER_SUFFIXES = (
    *(".dds", ".exr", ".hdr", ".icns", ".ico", ".j2k", ".jp2", ".jxl", ".jxr", ".psb", ".psd"),
    *(".pdf", ".qoi", ".svg", ".tga", ".xcf"),
)

# Kinds of files, and their plurals.
PLURALS = {
    "video": "videos",
    "video of a Live Photo": "videos of Live Photos",
    "raw file": "raw files",
    "file of another format": "files of other formats",
}


def passed_over(folder: Path, output: Path) -> str | None:
    """Returns a note on the files in and below a folder that are not upscaled, or None.

    Args:
        folder: The input folder.
        output: The output folder, whose files do not count.
    """
    counts: Counter[str] = Counter()
    results = output.resolve()
    for parent, folders, names in os.walk(folder):
        parent_folder = Path(parent).resolve()
        folders[:] = [
            name for name in folders if name[0] != "." and parent_folder / name != results
        ]
        stems = {Path(name).stem.lower() for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
        for name in names:
            if name[0] != "." and (kind := _kind(Path(parent, name), stems)):
                counts[kind] += 1
    if not counts:
        return None
    names = [f"{n} {kind if n == 1 else PLURALS[kind]}" for kind, n in sorted(counts.items())]
    text = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
    are = "are" if sum(counts.values()) != 1 else "is"
    hint = "; name videos to upscale them" if counts["video"] else ""
    return f"{text} {are} passed over{hint}"


def _kind(path: Path, stems: set[str]) -> str | None:
    """Returns the kind of a file, a key of `PLURALS`, or None.

    Args:
        path: The file.
        stems: The stems of the images in its folder, in lower case.
    """
    suffix = path.suffix.lower()
    if suffix in RAW_SUFFIXES:
        return "raw file"
    if suffix in OTHER_SUFFIXES:
        return "file of another format"
    if not is_video(path):
        return None
    # The video of a Live Photo has the name of its image.
    return "video of a Live Photo" if suffix == ".mov" and path.stem.lower() in stems else "video"
