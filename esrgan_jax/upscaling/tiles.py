"""Plans the tiles of an image: few shapes, even spacing, enough overlap."""

from itertools import pairwise
from typing import NamedTuple

# Pixels that neighbouring tiles share by default. The released networks' receptive field is up to
# 349 pixels, but with 56 on each side results differ from untiled ones by a tenth of a level
# (docs/upscaling.md).
OVERLAP = 112
SHORTEST_TILE = 32


class Span(NamedTuple):
    """The range of an axis that one tile reads, and the range of it that its result fills."""

    start: int
    end: int
    keep_start: int
    keep_end: int


class Axis(NamedTuple):
    """The tiles along one axis of an image."""

    length: int  # of every tile; a tile is zero beyond the end of its span
    spans: tuple[Span, ...]


def plan_axis(
    size: int,
    tile: int,
    overlap: int,
    *,
    multiple: int = 1,
    steps: int = 4,
    wrap: bool = False,
) -> Axis:
    """Plans the tiles along an axis: one if it fits, otherwise equal ones, evenly spaced.

    Args:
        size: Of the axis, in pixels: at least 1 and, without `wrap`, a multiple of `multiple`.
        tile: Largest length of a tile: more than `overlap` and a multiple of `multiple`.
        overlap: Pixels that neighbours share at least; each result ends in the middle of them.
        multiple: Starts and lengths are multiples of it.
        steps: Number of lengths between one power of two and the next. More lengths mean less
            padding, fewer mean less compilation. With 0 tiles are never padded: a single one is as
            long as the axis, others have the length `tile`.
        wrap: The axis is periodic. A single tile is as long as the axis, and convolutions wrap
            around; several tiles reach over its ends, by half the overlap or more.

    Returns:
        The plan. Without `wrap` its spans are within 0 and `size`.
    """
    if size <= tile and size % multiple == 0:
        return Axis(min(rounded(size, multiple, steps), tile), (Span(0, size, 0, size),))
    if wrap:
        before = -(-overlap // 2 // multiple) * multiple
        longest = max((tile - 2 * before) // multiple * multiple, multiple)
        longest = -(-size // -(-size // longest) // multiple) * multiple  # of as many, even pieces
        cuts = [*range(0, size, longest), size]
        length = min(rounded(longest + 2 * before, multiple, steps), tile) if steps else tile
        starts = [cut - before for cut in cuts[:-1]]
        return Axis(
            length,
            tuple(Span(s, s + length, *cut) for s, cut in zip(starts, pairwise(cuts), strict=True)),
        )
    count = 1 + -(-(size - tile) // (tile - overlap))
    length = rounded(-(-(size - overlap) // count) + overlap, multiple, steps) if steps else tile
    length = min(length, tile)
    return Axis(length, tuple(spans(size, length, overlap, multiple)))


def rounded(size: int, multiple: int = 1, steps: int = 4) -> int:
    """Rounds a length up to one of `steps` between two powers of two, at least SHORTEST_TILE."""
    if not steps:
        return size
    unit = (
        max(SHORTEST_TILE, 2 ** ((size - 1).bit_length() - 1)) // steps
        if size > 1
        else SHORTEST_TILE
    )
    unit = max(unit // multiple, 1) * multiple
    return max(-(-size // unit) * unit, SHORTEST_TILE)


def spans(size: int, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Returns evenly spaced tiles of one length along an axis.

    Args:
        size: Length of the axis, at least that of the tile.
        tile: Length of every tile, at least `overlap` + `multiple`.
        overlap: Pixels that neighbours share at least.
        multiple: All starts are multiples of it; `size` and `tile` must be, too.

    Returns:
        The first starts at 0 and the last ends at `size`, so only the image's own border is
        padded.
    """
    size, tile, overlap = size // multiple, tile // multiple, -(-overlap // multiple)
    count = 1 + -(-(size - tile) // (tile - overlap))
    starts = [i * (size - tile) // max(count - 1, 1) * multiple for i in range(count)]
    size, tile = size * multiple, tile * multiple
    cuts = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), size]
    return [Span(s, s + tile, *cut) for s, cut in zip(starts, pairwise(cuts), strict=True)]
