"""Finds the main image among the directories of a TIFF."""

import struct
from typing import BinaryIO, NamedTuple

from esrgan_jax.errors import InputError
from esrgan_jax.images.foreign import raw_sentence
from esrgan_jax.images.formats.tiff_directory import (
    MAKE,
    PHOTOMETRIC,
    SUB_IFDS,
    Entries,
    Fields,
    Layout,
    open_tiff,
    read_entries,
    read_fields,
)
from esrgan_jax.images.formats.tiff_tags import numbers

SUBFILE, OLD_SUBFILE, PHOTOSHOP_LAYERS, DNG_VERSION = 254, 255, 37724, 50706
READ = (SUBFILE, OLD_SUBFILE, PHOTOMETRIC, MAKE, SUB_IFDS)
SUB_IFD_TYPES = (4, 13, 16, 18)
REDUCED, MASK = 1, 4  # bits of SUBFILE
TRANSPARENCY, COLOUR_FILTERS, LINEAR_RAW = 4, 32803, 34892  # values of PHOTOMETRIC
MOST_DIRECTORIES, MOST_SUB_DIRECTORIES = 1 << 16, 64  # of a file, and below one directory


class Directory(NamedTuple):
    """A directory: options of libvips that select it, and the values of two of its tags."""

    options: dict[str, int]
    kind: int
    photometric: int

    @property
    def whole(self) -> bool:
        """Whether it is a full image, not a smaller copy or a mask of another one."""
        return not self.kind & (REDUCED | MASK) and self.photometric != TRANSPARENCY


class MainImage(NamedTuple):
    """The image of a TIFF that is used.

    Attributes:
        options: Options of libvips' loader that select it.
        notes: What is dropped, each a sentence without a full stop.
    """

    options: dict[str, int]
    notes: tuple[str, ...] = ()


def choose_page(file: BinaryIO) -> MainImage:
    """Chooses the first image of an open TIFF that is not a smaller copy or a mask.

    Raises:
        ValueError: It is a camera raw file.
    """
    try:
        layout, first = open_tiff(file)
        found, raw, layers = _directories(file, layout, first)
    except (struct.error, ValueError, InputError):
        return MainImage({})  # libvips reports the damage
    if raw:
        raise ValueError(raw_sentence(raw))
    whole = [one for one in found if one.whole]
    if not whole:  # a thumbnail alone is still an image
        return MainImage({}, _only_first(len(found)))
    pages = [one for one in whole if "subifd" not in one.options]
    notes = _only_first(len(pages))
    if any(one.photometric == TRANSPARENCY or one.kind & MASK for one in found):
        notes += ("its transparency mask is dropped",)
    if layers:
        notes += ("its Photoshop layers are dropped; the flattened image is used",)
    return MainImage((pages or whole)[0].options, notes)


def _only_first(count: int) -> tuple[str, ...]:
    return (f"only the first of the {count} images in the file is used",) if count > 1 else ()


def _directories(
    file: BinaryIO, layout: Layout, offset: int
) -> tuple[list[Directory], str | None, bool]:
    """Returns all directories, the raw format if any, and whether Photoshop layers exist."""
    found, dng, maker, layers, seen = [], False, "", False, set()
    while offset and offset not in seen and len(seen) < MOST_DIRECTORIES:
        seen.add(offset)
        own, after = read_entries(file, layout, offset)
        fields = _read(file, layout, own)
        options = {"page": len(seen) - 1} if len(seen) > 1 else {}
        found.append(_directory(fields, options))
        dng, layers = dng or DNG_VERSION in own, layers or PHOTOSHOP_LAYERS in own
        maker = maker or _maker(fields)
        for i, inner in enumerate(_sub_directories(fields)):
            if len(found) < MOST_DIRECTORIES:
                below, _ = read_entries(file, layout, inner)
                found.append(_directory(_read(file, layout, below), {**options, "subifd": i}))
        offset = struct.unpack(layout.counts[1], after)[0]
    sensor = any(one.photometric in (COLOUR_FILTERS, LINEAR_RAW) for one in found)
    raw = "DNG" if dng and sensor else maker or "a camera" if sensor else None
    return found, raw, layers


def _read(file: BinaryIO, layout: Layout, entries: Entries) -> Fields:
    return read_fields(file, layout, {tag: entries[tag] for tag in READ if tag in entries})


def _directory(fields: Fields, options: dict[str, int]) -> Directory:
    def value(tag: int, default: int) -> int:
        return int((numbers(fields, tag) or (default,))[0])

    kind = value(SUBFILE, {2: REDUCED}.get(value(OLD_SUBFILE, 1), 0))
    return Directory(options, kind, value(PHOTOMETRIC, -1))


def _sub_directories(fields: Fields) -> list[int]:
    """Returns the offsets of the directories below one."""
    if SUB_IFDS not in fields or fields[SUB_IFDS].type not in SUB_IFD_TYPES:
        return []
    return [int(offset) for offset in numbers(fields, SUB_IFDS)[:MOST_SUB_DIRECTORIES]]


def _maker(fields: Fields) -> str:
    kind, data = fields.get(MAKE, (0, b""))
    text = data[:64] if kind == 2 else b""
    return text.partition(b"\0")[0].decode("latin-1").strip().title()
