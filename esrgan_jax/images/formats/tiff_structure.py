"""Finds the main image among the directories of a TIFF."""

import struct
from typing import BinaryIO, NamedTuple

from esrgan_jax.errors import InputError
from esrgan_jax.images.foreign import raw_sentence
from esrgan_jax.images.metadata.exif import SIZES, Entries, Layout, open_tiff, read_entries

SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, PHOTOMETRIC, MAKE = 254, 255, 256, 257, 262, 271
SUB_DIRECTORIES, DNG_VERSION, LAYERS = 330, 50706, 37724
REDUCED, MASK = 1, 4  # bits of SUBFILE
TRANSPARENCY, COLOUR_FILTERS, LINEAR_RAW = 4, 32803, 34892  # values of PHOTOMETRIC
MOST = 1 << 16  # directories


class Page(NamedTuple):
    """A directory: options of libvips that select it, and the values of some of its tags."""

    options: dict[str, int]
    kind: int
    height: int
    width: int
    photometric: int

    @property
    def whole(self) -> bool:
        """Whether it is a full image, not a smaller copy or a mask of another one."""
        return not self.kind & (REDUCED | MASK) and self.photometric != TRANSPARENCY


class Pages(NamedTuple):
    """The chosen image of a TIFF.

    Attributes:
        options: Options of libvips' loader that select it.
        notes: What is dropped, each a sentence without a full stop.
    """

    options: dict[str, int]
    notes: tuple[str, ...] = ()


def choose_page(file: BinaryIO) -> Pages:
    """Chooses the first image of an open TIFF that is not a smaller copy or a mask.

    Raises:
        ValueError: It is a camera raw file.
    """
    try:
        layout, first = open_tiff(file)
        pages, raw, layers = _pages(file, layout, first)
    except (struct.error, ValueError, InputError):
        return Pages({})  # libvips reports what is wrong
    if raw:
        raise ValueError(raw_sentence(raw))
    whole = [page for page in pages if page.whole]
    if not whole:  # a thumbnail alone is still an image
        return Pages({}, _left_out(len(pages)))
    chosen = next((page for page in whole if "subifd" not in page.options), whole[0])
    notes = _left_out(len([page for page in whole if "subifd" not in page.options]))
    if any(page.photometric == TRANSPARENCY or page.kind & MASK for page in pages):
        notes += ("its transparency mask is dropped",)
    if layers:
        notes += ("its Photoshop layers are dropped; the flattened image is taken",)
    return Pages(chosen.options, notes)


def _left_out(count: int) -> tuple[str, ...]:
    return (f"only the first of the {count} images in the file is used",) if count > 1 else ()


def _pages(file: BinaryIO, layout: Layout, offset: int) -> tuple[list[Page], str | None, bool]:
    """Returns all directories, the raw format if any, and whether Photoshop layers exist."""
    pages, dng, maker, layers, seen = [], False, "", False, set()
    while offset and offset not in seen and len(seen) < MOST:
        seen.add(offset)
        own, after = read_entries(file, layout, offset)
        options = {"page": len(seen) - 1} if len(seen) > 1 else {}
        pages.append(_page(layout, own, options))
        dng, layers = dng or DNG_VERSION in own, layers or LAYERS in own
        maker = maker or _text(file, layout, own)
        for i, inside in enumerate(_values(file, layout, own.get(SUB_DIRECTORIES))):
            if len(pages) < MOST:
                below, _ = read_entries(file, layout, inside)
                pages.append(_page(layout, below, {**options, "subifd": i}))
        offset = struct.unpack(layout.counts[1], after)[0]
    sensor = any(p.photometric in (COLOUR_FILTERS, LINEAR_RAW) for p in pages)
    raw = "DNG" if dng and sensor else maker or "a camera" if sensor else None
    return pages, raw, layers


def _page(layout: Layout, own: Entries, options: dict[str, int]) -> Page:
    def value(tag: int, default: int) -> int:
        if tag not in own or own[tag][0] not in (1, 3, 4, 13, 16):
            return default
        return _unpacked(layout, own[tag][0], own[tag][2], 1)[0]

    kind = value(SUBFILE, {2: REDUCED}.get(value(OLD_SUBFILE, 1), 0))
    return Page(options, kind, value(HEIGHT, 0), value(WIDTH, 0), value(PHOTOMETRIC, -1))


def _unpacked(layout: Layout, kind: int, data: bytes, count: int) -> tuple[int, ...]:
    code = {1: "B", 3: "H", 4: "I", 13: "I"}.get(kind, "Q")
    return struct.unpack_from(f"{layout.order}{count}{code}", data)


def _values(
    file: BinaryIO, layout: Layout, entry: tuple[int, int, bytes] | None
) -> tuple[int, ...]:
    if entry is None or entry[0] not in (4, 13, 16, 18):
        return ()
    kind, count, data = entry
    count = min(count, 64)
    size = (8 if kind in (16, 18) else 4) * count
    if size > len(data):
        file.seek(struct.unpack(layout.counts[1], data)[0])
        data = file.read(size)
    return _unpacked(layout, kind, data, count)


def _text(file: BinaryIO, layout: Layout, own: Entries) -> str:
    kind, count, data = own.get(MAKE, (0, 0, b""))
    if kind != 2 or not 0 < count * SIZES[2] <= 64:
        return ""
    if count > len(data):
        file.seek(struct.unpack(layout.counts[1], data)[0])
        data = file.read(count)
    return data[:count].partition(b"\0")[0].decode("latin-1").strip().title()
