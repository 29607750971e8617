"""Checks before any work whether the results will fit on the disk."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from esrgan_jax.errors import RunError
from esrgan_jax.files import bytes_text
from esrgan_jax.images.output_formats import OUTPUT_FORMATS


def shortage(sizes: Iterable[tuple[Path, int]]) -> dict[Path, str]:
    """Returns warnings for folders whose disks have less space than the results usually take.

    Sizes of compressed files are not known before, so only a disk that is almost full is an error.

    Args:
        sizes: The file of each result and the bytes of its pixels.

    Returns:
        A note for a folder of each such disk.

    Raises:
        RunError: The results cannot fit, however well they can be compressed.
    """
    usual: Counter[int] = Counter()
    least: Counter[int] = Counter()
    folders: dict[int, Path] = {}
    for path, size in sizes:
        path = path.absolute()
        folder = next(parent for parent in path.parents if parent.is_dir())
        disk = os.stat(folder).st_dev
        folders.setdefault(disk, folder)
        to = OUTPUT_FORMATS[path.suffix.lower()]
        usual[disk] += round(size * to.usual)
        least[disk] += int(size * to.least) + 1
    free = {disk: shutil.disk_usage(folder).free for disk, folder in folders.items()}
    for disk, size in least.items():
        if size > free[disk]:
            raise RunError(
                f"{folders[disk]}: {bytes_text(free[disk])} are free, and the results take at "
                f"least {bytes_text(size)}; free some space, or choose another --output"
            )
    return {
        folders[disk]: f"the results take about {bytes_text(size)}, and {bytes_text(free[disk])} "
        "are free; if the disk gets full, finished results are kept"
        for disk, size in usual.items()
        if size > free[disk]
    }
