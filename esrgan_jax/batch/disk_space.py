"""Checks before the work whether the results will fit on the disk."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from esrgan_jax.errors import RunError
from esrgan_jax.files import bytes_text
from esrgan_jax.images.output_formats import FORMATS

# Bytes of a file over those of its pixels, for photographs enlarged four times. Drawings take less.
USUAL = {"png": 0.4, "tiff": 0.5, "gif": 0.3, "webp": 0.15, "jpeg": 0.1, "heif": 0.05}
# What no file comes below: Deflate shrinks by 1,032 at most, and a block of a JPEG has 14 bits.
LEAST = {"png": 1 / 1032, "tiff": 1 / 1032, "jpeg": 14 / 8 / 192}


def shortage(sizes: Iterable[tuple[Path, int]]) -> dict[Path, str]:
    """What to tell of the folders whose disks have less room than images usually take.

    How well an image can be compressed is not known before it is there, so this is a warning, but
    for a disk that is as good as full.

    Args:
        sizes: The file of each result and the bytes of its pixels.

    Returns:
        A sentence, without its stop, for a folder of each such disk.

    Raises:
        RunError: The results cannot fit, however well they are compressed.
    """
    wanted: Counter[int] = Counter()
    least: Counter[int] = Counter()
    folders: dict[int, Path] = {}
    for path, size in sizes:
        path = path.absolute()
        folder = next(place for place in path.parents if place.is_dir())
        disk = os.stat(folder).st_dev
        folders.setdefault(disk, folder)
        saver = FORMATS[path.suffix.lower()].saver
        wanted[disk] += round(size * USUAL[saver])
        least[disk] += int(size * LEAST.get(saver, 0)) + 1
    free = {disk: shutil.disk_usage(folder).free for disk, folder in folders.items()}
    for disk, size in least.items():
        if size > free[disk]:
            raise RunError(
                f"{folders[disk]}: {bytes_text(free[disk])} are free there, and the results take "
                f"at least {bytes_text(size)}; make room, or take another --output"
            )
    return {
        folders[disk]: f"the results take about {bytes_text(size)}, and {bytes_text(free[disk])} "
        "are free there: if they do not suffice, what is done by then stays"
        for disk, size in wanted.items()
        if size > free[disk]
    }
