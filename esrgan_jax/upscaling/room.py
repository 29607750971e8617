"""Whether the results will fit on the disk, as far as that can be known before they are made."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from esrgan_jax.files import bytes_text
from esrgan_jax.pictures.formats import FORMATS

# Bytes of a file over those of its pixels, for photographs enlarged four times. Drawings take less.
USUAL = {"png": 0.4, "tiff": 0.5, "gif": 0.3, "webp": 0.15, "jpeg": 0.1, "heif": 0.05}


def shortage(sizes: Iterable[tuple[Path, int]]) -> dict[Path, str]:
    """What to tell of the folders whose disks have less room than pictures usually take.

    How well a picture can be compressed is not known before it is there, so this is a warning.

    Args:
        sizes: The file of each result and the bytes of its pixels.

    Returns:
        A sentence, without its stop, for a folder of each such disk.
    """
    wanted: Counter[int] = Counter()
    folders: dict[int, Path] = {}
    for path, size in sizes:
        path = path.absolute()
        folder = next(place for place in path.parents if place.is_dir())
        disk = os.stat(folder).st_dev
        folders.setdefault(disk, folder)
        wanted[disk] += round(size * USUAL[FORMATS[path.suffix.lower()].saver])
    free = {disk: shutil.disk_usage(folder).free for disk, folder in folders.items()}
    return {
        folders[disk]: f"the results take about {bytes_text(size)}, and {bytes_text(free[disk])} "
        "are free there: if they do not suffice, what is done by then stays"
        for disk, size in wanted.items()
        if size > free[disk]
    }
