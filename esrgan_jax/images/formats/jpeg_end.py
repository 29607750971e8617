"""Checks that a JPEG file is neither truncated nor damaged."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyvips

from esrgan_jax.images.formats.jpeg_scans import all_scans
from esrgan_jax.images.formats.jpeg_structure import START_OF_SCAN, read_segments
from esrgan_jax.images.vips import load_vips

END_MARKER = b"\xff\xd9"
SEQUENTIAL, PROGRESSIVE, LOSSLESS = (0xC0, 0xC1), 0xC2, 0xC3  # frames with Huffman codes
TABLES, RESTARTS = 0xC4, 0xDD
NO_SIZE = (0x00, 0x01, *range(0xD0, 0xD9))  # markers without content
METADATA_MARKERS = (*range(0xE0, 0xF0), 0xFE)
HIGHEST = 65500  # rows that libjpeg supports
STEP = 8  # rows
GAP = bytes(32)  # from this length on, zeros are taken for missing data
EARLY = "premature end"  # part of a warning of libjpeg
NO_END = "its end marker is missing, but its pixels are complete"
NO_DETAILS = "it is truncated or damaged: its finer details are missing"
FEW_SCANS = "its last scans are missing, so its finer details are missing"
JPEG_DAMAGED = "it is damaged, so parts of it may be wrong"


class Coded(NamedTuple):
    """A JPEG reduced to what a decoder needs for its pixels.

    Attributes:
        data: The bytes of the reduced JPEG.
        frame: Offset of the frame header in `data`.
        scan: Offset of the first scan in `data`.
        restarts: Whether it has restart markers.
        one_scan: Whether its first scan has all components.
        gaps: Whether a long run of zeros can be valid data: many blocks of one color.
    """

    data: bytes
    frame: int
    scan: int
    restarts: bool
    one_scan: bool
    gaps: bool

    @property
    def kind(self) -> int:
        """The marker of the frame: SEQUENTIAL, PROGRESSIVE, LOSSLESS or another one."""
        return self.data[self.frame + 1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        at = self.frame + 5
        return int.from_bytes(self.data[at : at + 2]), int.from_bytes(self.data[at + 2 : at + 4])

    @property
    def unit(self) -> tuple[int, int]:
        """Height and width of a minimum coded unit, in pixels."""
        count = self.data[self.frame + 9]
        samplings = self.data[self.frame + 11 : self.frame + 11 + 3 * count : 3]
        if count == 1:
            return 8, 8
        return 8 * max(s & 15 for s in samplings), 8 * max(s >> 4 for s in samplings)

    @property
    def coded_rows(self) -> int:
        """The number of rows that are coded: the height, rounded up to whole units."""
        (height, _), (tall, _) = self.size, self.unit
        return -(-height // tall) * tall

    def taller(self) -> bytes | None:
        """Returns the JPEG with a height of two more rows of units; None if that cannot be tested.

        A decoder has no data for these rows and fills them with one color.
        """
        height = self.coded_rows + 2 * self.unit[0]
        if self.kind not in SEQUENTIAL or not self.one_scan or height > HIGHEST:
            return None
        at = self.frame + 5
        return self.data[:at] + height.to_bytes(2) + self.data[at + 2 :]


def checked_jpeg(source: Path | bytes) -> tuple[Path | bytes, tuple[str, ...]]:
    """Returns a JPEG with an end marker, and notes on damage that leaves it readable.

    The check decodes the image up to twice.

    Raises:
        ValueError: Rows or details are missing, or this kind of JPEG is not supported.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    coded = coded_part(data)
    if coded is None:  # the decoder reports the damage
        return source, ()
    if (bits := coded.data[coded.frame + 4]) != 8:
        raise ValueError(
            f"it is a JPEG of {bits} bits a channel, which is not supported; "
            "convert it to a 16-bit PNG or TIFF"
        )
    if coded.kind == LOSSLESS:
        raise ValueError("it is a lossless JPEG, which is not supported; convert it to PNG or TIFF")
    end, notes = read_segments(coded.data).end, ()
    if end is None:
        source, notes = _ended(data), (NO_END,)
    coded = coded._replace(data=_ended(coded.data[:end].removesuffix(END_MARKER)))
    if coded.kind == PROGRESSIVE and not all_scans(coded.data, coded.frame, coded.scan):
        if end is None:
            raise ValueError(NO_DETAILS)
        notes = (FEW_SCANS,)
    height, _ = coded.size
    row, warning = _first_warning(coded)
    if row is None:
        if not coded.gaps and GAP in coded.data[coded.scan :]:
            return source, (f"{JPEG_DAMAGED} (part of its data is zeros)",)
        if _has_more(coded):
            return source, (f"{JPEG_DAMAGED} (it has data for more pixels than its size)",)
        return source, notes
    if coded.kind == PROGRESSIVE and (end is None or EARLY in warning):
        raise ValueError(NO_DETAILS)
    if end is None or (EARLY in warning and not coded.restarts):
        missing = f"the last {height - row} of its {height} rows are missing"
        raise ValueError(f"it is truncated or damaged: {missing}")
    return source, (f"{JPEG_DAMAGED} (from row {row} of {height} on)",)


def _ended(data: bytes) -> bytes:
    """Returns a JPEG with an end marker, without the zeros that end a partly written file."""
    filled = data.rstrip(b"\0")
    return (filled if data.endswith(GAP) else data).rstrip(b"\xff") + END_MARKER


def coded_part(data: bytes) -> Coded | None:
    """Returns a JPEG without its metadata; None if it has no frame or no scan."""
    parts, frame, restarts, gaps, at = [data[:2]], None, False, True, 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 4:
        marker = data[at + 1]
        if marker == 0xFF or marker in NO_SIZE:
            at += 1 if marker == 0xFF else 2
            continue
        part = data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4])]
        at += len(part)
        here = sum(map(len, parts))
        if marker == START_OF_SCAN and frame is not None:
            kind, components = frame[1][1], frame[1][9]
            if kind in SEQUENTIAL:
                part = part[:-3] + b"\0\x3f\0"  # some programs write zeros
            parts += [part, data[at:]]
            one = part[4] == components
            return Coded(b"".join(parts), frame[0], here, restarts, one, gaps or not one)
        if 0xC0 <= marker <= 0xCF and marker not in (TABLES, 0xC8, 0xCC) and len(part) > 10:
            frame = here, part
        if marker == TABLES:
            gaps &= all(first == 0 for first in _first_symbols(part[4:]))
        if marker == RESTARTS:
            restarts = part[4:6] != b"\0\0"
        if marker not in METADATA_MARKERS:
            parts.append(part)
    return None


def _first_symbols(tables: bytes) -> Iterator[int]:
    """Yields the symbol with an all-zero code of each Huffman table of AC coefficients.

    Symbol 0 ends a block, so that a run of zeros is a run of blocks of one color.
    """
    while len(tables) > 17:
        if tables[0] >> 4:
            yield tables[17]
        tables = tables[17 + sum(tables[1:17]) :]


def _first_warning(coded: Coded) -> tuple[int | None, str]:
    """Returns the first row for which the decoder lacks data, or None, and its warning.

    The decoder warns only when it reads the rows below, so `taller` adds some.
    """
    taller = coded.taller()
    image = load_vips(taller or coded.data, "jpeg", access="sequential", fail_on="warning")
    region = pyvips.Region.new(image)
    # Only with subsampled color does the decoder read the next unit for the last coded rows.
    end = image.height
    if taller is not None:
        end = coded.coded_rows + (STEP if coded.unit[0] == STEP else 0)
    for row in range(0, end, STEP):
        try:
            region.fetch(0, row, image.width, min(STEP, image.height - row))
        except pyvips.Error as error:
            return max(min(row, coded.coded_rows) - coded.unit[0], 0), error.detail or ""
    return None, ""


def _has_more(coded: Coded) -> bool:
    """Returns whether data is left after the last pixel, as when codes were misread."""
    taller = coded.taller()
    if taller is None:
        return False
    image = load_vips(taller, "jpeg", access="sequential", fail_on="none")
    region, top, (tall, wide) = pyvips.Region.new(image), coded.coded_rows, coded.unit
    for row in range(0, image.height, STEP):
        rows = np.frombuffer(region.fetch(0, row, image.width, STEP), np.uint8)
        rows = rows.reshape(STEP, image.width, image.bands)
        if row >= top:
            # The decoder smooths colors over two rows, and may run out of data within a unit.
            first = 2 if row in (top, top + tall) else 0
            rows = rows[first:, 3 * wide if row < top + tall else 0 :]
            if rows.size and (rows != rows[-1, -1]).any():
                return True
    return False
