"""Splits the samples of a TIFF into colours, alpha and further bands, and joins them again.

A further band, such as infrared, is upscaled as a separate gray image: it becomes a frame in which
all colour channels equal the band.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyvips

from esrgan_jax.images.formats.tiff_kind import ASSOCIATED, UNASSOCIATED, UNSPECIFIED, TiffKind

ROWS = 64
ALPHAS = (ASSOCIATED, UNASSOCIATED)


class Samples(NamedTuple):
    """The meaning of the samples of a pixel.

    Attributes:
        colors: The number of colour samples, which come first.
        extra: TIFF's kinds of the samples after the colours.
        alpha: The index of the alpha sample, if there is one.
        nodata: The value of all samples of pixels without data; None without such pixels.
    """

    colors: int
    extra: tuple[int, ...] = ()
    alpha: int | None = None
    nodata: float | None = None

    @property
    def further(self) -> list[int]:
        """The indices of the samples that are neither colour nor alpha."""
        places = range(self.colors, self.colors + len(self.extra))
        return [place for place in places if place != self.alpha]


def samples_of(
    kind: TiffKind, opened: Callable[[str], pyvips.Image], nodata: float | None
) -> Samples:
    """Returns the meaning of a TIFF's samples; only the first alpha sample counts as alpha.

    Args:
        opened: Opens the image with a libvips access mode, such as "sequential".
        nodata: The value of pixels without data; all pixels are searched for it.
    """
    image = opened("sequential")
    if image.bands != kind.samples:  # a palette
        return Samples(image.bands)
    colors = kind.colors
    found = [i for i, extra in enumerate(kind.extra) if extra in ALPHAS]
    alpha = colors + found[0] if found else None
    extra = tuple(
        UNASSOCIATED if colors + i == alpha else UNSPECIFIED for i in range(len(kind.extra))
    )
    if alpha is not None or (nodata is not None and not empty(image, nodata).max()):
        nodata = None
    return Samples(colors, extra, alpha, nodata)


def frame(image: pyvips.Image, samples: Samples, index: int) -> pyvips.Image:
    """Returns frame `index` with its alpha: the colours (0) or a further band (from 1)."""
    if image.bands == samples.colors and samples.nodata is None:
        return image
    deep, own = image.format == "ushort", image[: samples.colors]
    if index:
        band = image[samples.further[index - 1]]
        gray = samples.colors == 1
        own = band if gray else band.bandjoin([band, band])
        space = ("grey16" if deep else "b-w") if gray else ("rgb16" if deep else "srgb")
        own = own.copy(interpretation=space)
    if samples.alpha is not None:
        return own.bandjoin(image[samples.alpha])
    if samples.nodata is None:
        return own
    none = empty(image, samples.nodata)
    white = {"uchar": 255, "ushort": 65535}.get(str(image.format), 1)
    alpha = (none.invert() * (white / 255)).cast(image.format)
    space = own.interpretation
    return none.ifthenelse(0, own).cast(image.format).bandjoin(alpha).copy(interpretation=space)


def filled(strips: Iterable[np.ndarray], nodata: float) -> Iterator[np.ndarray]:
    """Yields strips without alpha, where mostly transparent pixels get the value of no data.

    Other pixels that have this value by chance are changed by one level, or a float's least step.
    """
    for strip in strips:
        dtype, colors = strip.dtype, strip[..., :-1]
        value = np.array(nodata).astype(dtype)
        if dtype.kind == "f":
            neighbor = np.nextafter(value, np.float32(0 if value else 1))
            seen = strip[..., -1:] >= 0.5
        else:
            top = np.iinfo(dtype).max
            neighbor = np.array(value - 1 if value == top else value + 1).astype(dtype)
            seen = strip[..., -1:] > top // 2
        taken = (colors == value).all(-1, keepdims=True)
        yield np.where(seen, np.where(taken, neighbor, colors), value).astype(dtype)


def empty(image: pyvips.Image, nodata: float) -> pyvips.Image:
    """Returns a mask that is 255 where all bands of a pixel have the value of no data."""
    if np.isnan(nodata):
        none = image.relational(image, "noteq")
    else:
        none = image.relational_const("equal", [nodata])
    return none.bandand() if image.bands > 1 else none


def count_further_bands(extra: tuple[int, ...]) -> int:
    """Counts the samples after the colours that are not alpha."""
    return sum(kind not in ALPHAS for kind in extra)


def extra_of(extra: tuple[int, ...], bands: int) -> tuple[int, ...]:
    """Returns TIFF's kinds of the samples after the colours, for frames that have `bands`."""
    if bands not in (2, 4):
        return tuple(kind for kind in extra if kind not in ALPHAS)
    return extra if any(kind in ALPHAS for kind in extra) else (UNASSOCIATED, *extra)


def interleaved(
    strips: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    dtype: np.dtype,
    extra: tuple[int, ...],
    folder: Path | None,
) -> Iterator[np.ndarray]:
    """Joins the frames of the colours and of each further band; yields strips of all samples.

    Args:
        strips: (n, width, bands), frame after frame.
        shape: (height, width, bands) of a frame: colours and then alpha, if any.
        extra: TIFF's kinds of the samples after the colours, from `extra_of`.
        folder: Where a temporary file stores the frames until the last is complete.

    Raises:
        ValueError: The strips have too many or too few rows.
    """
    (height, width, bands), done = shape, 0
    colors, others = bands - (bands in (2, 4)), count_further_bands(extra)
    with tempfile.TemporaryFile(dir=folder) as file:
        for strip in strips:
            # All channels of a further band's frame are the same band.
            own = strip if done < height else strip[..., :1]
            file.write(np.ascontiguousarray(own, dtype).tobytes())
            done += len(strip)
        if done != height * (1 + others):
            raise ValueError(f"the strips have {done} rows, not {height * (1 + others)}")
        file.flush()
        first = np.memmap(file, dtype, "r", 0, shape)
        rest = np.memmap(file, dtype, "r", first.nbytes, (others, height, width))
        for top in range(0, height, ROWS):
            rows = slice(top, top + ROWS)
            band = iter(rest[:, rows])
            planes = [first[rows, :, -1] if kind in ALPHAS else next(band) for kind in extra]
            yield np.dstack([first[rows, :, :colors], *planes])
