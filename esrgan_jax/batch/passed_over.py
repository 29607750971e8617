"""Counts the files of a folder that are not upscaled: videos, raw files, documents."""

import os
from collections import Counter
from pathlib import Path

from esrgan_jax.images.image_file import SUFFIXES
from esrgan_jax.video.detect import is_video

RAW = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef"),
    *(".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srw", ".x3f"),
)
OTHERS = (
    *(".dds", ".exr", ".hdr", ".icns", ".ico", ".j2k", ".jp2", ".jxl", ".jxr", ".psb", ".psd"),
    *(".pdf", ".qoi", ".svg", ".tga", ".xcf"),
)

VIDEO, LIVE, RAW_FILE, OTHER = (
    "video",
    "video of a Live Photo",
    "raw file",
    "file of another format",
)
MANY = {
    VIDEO: "videos",
    LIVE: "videos of Live Photos",
    RAW_FILE: "raw files",
    OTHER: "files of other formats",
}


def passed_over(folder: Path, output: Path) -> str | None:
    """A sentence, without its stop, on the videos and other images in a folder and below it.

    Args:
        output: Where results go; what is in it does not count.
    """
    counts: Counter[str] = Counter()
    results = output.resolve()
    for parent, folders, names in os.walk(folder):
        here = Path(parent).resolve()
        folders[:] = [name for name in folders if name[0] != "." and here / name != results]
        stems = {Path(name).stem.lower() for name in names if name.lower().endswith(SUFFIXES)}
        for name in names:
            if name[0] != "." and (kind := _kind(Path(parent, name), stems)):
                counts[kind] += 1
    if not counts:
        return None
    listed = [f"{n} {kind if n == 1 else MANY[kind]}" for kind, n in sorted(counts.items())]
    text = " and ".join([", ".join(listed[:-1]), listed[-1]] if listed[1:] else listed)
    are = "are" if sum(counts.values()) != 1 else "is"
    hint = "; name videos to upscale them" if counts[VIDEO] else ""
    return f"{text} {are} passed over{hint}"


def _kind(path: Path, stems: set[str]) -> str | None:
    """What a file is called; `stems` are those of the images beside it, in small letters."""
    suffix = path.suffix.lower()
    if suffix in RAW:
        return RAW_FILE
    if suffix in OTHERS:
        return OTHER
    if not is_video(path):
        return None
    # A telephone puts the video of a Live Photo beside its image.
    return LIVE if suffix == ".mov" and path.stem.lower() in stems else VIDEO
