"""JPEG files without the marker at their end: whole all the same, or cut off."""

import mmap
from pathlib import Path

import pyvips

from esrgan_jax.pictures.jpeg_structure import read_segments
from esrgan_jax.pictures.metadata import field
from esrgan_jax.pictures.vips import load

END, SCAN = b"\xff\xd9", b"\xff\xda"
BLOCK = 8  # rows
NOTE = "the mark at its end is missing, and nothing else is"


def with_end(source: Path | bytes) -> tuple[Path | bytes, tuple[str, ...]]:
    """A JPEG to be read, with its end in place, and a note where that was missing.

    Raises:
        ValueError: Rows are missing, too.
    """
    if isinstance(source, bytes):
        data = source if _is_cut(source) else None
    else:
        with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
            data = bytes(m) if _is_cut(m) else None
    if data is None:
        return source, ()
    data = data.rstrip(b"\xff") + END
    image = load(data, "jpeg", access="sequential", fail_on="warning")
    region, done = pyvips.Region.new(image), 0
    try:
        while done < image.height:
            rows = min(BLOCK, image.height - done)
            region.fetch(0, done, image.width, rows)
            done += rows
    except pyvips.Error as error:
        if field(image, "jpeg-multiscan", 0):
            raise ValueError("it is cut off: its finer details are missing") from error
        missing = f"the last {image.height - done} of its {image.height} rows are missing"
        raise ValueError(f"it is cut off: {missing}") from error
    return data, (NOTE,)


def _is_cut(data: "bytes | mmap.mmap") -> bool:
    """Whether there is a picture in it that does not end."""
    return data.find(SCAN) >= 0 and read_segments(data).end is None  # type: ignore[arg-type]
