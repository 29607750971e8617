"""Finds which samples of a TIFF are colours, alpha, or further bands.

A band beside the colours is enlarged like a gray image of its own: it is a further frame, whose
channels are all that band.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyvips

from esrgan_jax.images.formats.tiff_kind import ASSOCIATED, UNASSOCIATED, UNSPECIFIED, TiffKind

ROWS = 64
ALPHAS = (ASSOCIATED, UNASSOCIATED)


class Samples(NamedTuple):
    """What the samples of a pixel are.

    Attributes:
        colors: The first so many are colours.
        extra: What TIFF calls those behind them; empty where all of them are transparency.
        alpha: The sample that is transparency.
        nodata: The value of pixels that are none, in every sample; None if there are no such.
    """

    colors: int
    extra: tuple[int, ...] = ()
    alpha: int | None = None
    nodata: float | None = None

    @property
    def further(self) -> list[int]:
        """The samples that are neither."""
        places = range(self.colors, self.colors + len(self.extra))
        return [place for place in places if place != self.alpha]


def samples_of(
    kind: TiffKind, opened: Callable[[str], pyvips.Image], nodata: float | None
) -> Samples:
    """What the samples of a TIFF are; only the first one of transparency is that.

    Args:
        opened: Gives its image, for "sequential" reading.
        nodata: The value of pixels that are none; whether there are any is looked up.
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
    """The colours of an image (0) or a band beside them (from 1), and transparency."""
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
    none: Any = empty(image, samples.nodata)
    white = {"uchar": 255, "ushort": 65535}.get(str(image.format), 1)
    alpha = ((none == 0) * (white / 255)).cast(image.format)
    space = own.interpretation
    return none.ifthenelse(0, own).cast(image.format).bandjoin(alpha).copy(interpretation=space)


def filled(strips: Iterable[np.ndarray], nodata: float) -> Iterator[np.ndarray]:
    """Strips without their transparency: what was more than half of it has the value of no data.

    No other pixel has it: one that would is a level (a float's least step) beside it.
    """
    for strip in strips:
        dtype, colors = strip.dtype, strip[..., :-1]
        value = np.array(nodata).astype(dtype)
        if dtype.kind == "f":
            beside = np.nextafter(value, np.float32(0 if value else 1))
            seen = strip[..., -1:] >= 0.5
        else:
            top = np.iinfo(dtype).max
            beside = np.array(value - 1 if value == top else value + 1).astype(dtype)
            seen = strip[..., -1:] > top // 2
        taken = (colors == value).all(-1, keepdims=True)
        yield np.where(seen, np.where(taken, beside, colors), value).astype(dtype)


def empty(image: pyvips.Image, nodata: float) -> pyvips.Image:
    """Where all bands of a pixel have the value of no data, as a mask of 255."""
    none: Any = (image != image) if np.isnan(nodata) else (image == nodata)
    return none.bandand() if image.bands > 1 else none


def count_further_bands(extra: tuple[int, ...]) -> int:
    """How many of the samples behind the colours are not transparency."""
    return sum(kind not in ALPHAS for kind in extra)


def extra_of(extra: tuple[int, ...], bands: int) -> tuple[int, ...]:
    """What TIFF calls the samples behind the colours of a result whose frames have `bands`."""
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
    """Strips of all samples, of those of the frames that the colours and each other band became.

    Args:
        strips: (n, width, bands), frame after frame.
        shape: (height, width, bands) of a frame: colours, and transparency behind them.
        extra: As `extra_of` gives it.
        folder: Where the finished frames wait for the last one, in a file without a name.
    """
    (height, width, bands), done = shape, 0
    colors, others = bands - (bands in (2, 4)), count_further_bands(extra)
    with tempfile.TemporaryFile(dir=folder) as file:
        for strip in strips:
            # Of a band beside the colours all channels are alike.
            own = strip if done < height else strip[..., :1]
            file.write(np.ascontiguousarray(own, dtype).tobytes())
            done += len(strip)
        if done != height * (1 + others):
            raise ValueError(f"the strips have {done} rows and not {height * (1 + others)}")
        file.flush()
        first = np.memmap(file, dtype, "r", 0, shape)
        rest = np.memmap(file, dtype, "r", first.nbytes, (others, height, width))
        for top in range(0, height, ROWS):
            rows = slice(top, top + ROWS)
            band = iter(rest[:, rows])
            planes = [first[rows, :, -1] if kind in ALPHAS else next(band) for kind in extra]
            yield np.dstack([first[rows, :, :colors], *planes])
