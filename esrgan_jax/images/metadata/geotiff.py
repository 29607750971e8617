"""Reads and scales the georeference and the nodata value of a GeoTIFF.

The tags are those of OGC GeoTIFF 1.1 and of GDAL.
"""

import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO, NamedTuple

import numpy as np

from esrgan_jax.images.formats.tiff_directory import Field, Fields
from esrgan_jax.images.formats.tiff_tags import numbers, read_tags

PIXEL_SCALE, TIEPOINTS, TRANSFORMATION = 33550, 33922, 34264
GEO_KEYS, GEO_DOUBLES, GEO_TEXTS = 34735, 34736, 34737
RPC, GDAL_METADATA, GDAL_NODATA = 50844, 42112, 42113
PLACES = (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, GEO_KEYS, GEO_DOUBLES, GEO_TEXTS, RPC)
RASTER_TYPE, POINT = 1025, 2  # a geo key, and its value if coordinates refer to pixel centres
STATISTICS = re.compile(rb"[ \t]*<Item name=\"STATISTICS_[^>]*>[^<]*</Item>\r?\n?")
DOUBLE = 12


class Geo(NamedTuple):
    """The georeference and the nodata value of a GeoTIFF.

    Attributes:
        tags: The tags of both, as read.
        nodata: The value of missing pixels; None if no pixels are marked as missing.
    """

    tags: Fields
    nodata: float | None = None

    @property
    def placed(self) -> bool:
        """Whether the file has a georeference."""
        return any(tag in self.tags for tag in PLACES)


def read_geo(file: BinaryIO, where: Mapping[str, int]) -> Geo | None:
    """Reads the georeference and the nodata value of an open TIFF; None if it has neither."""
    tags = read_tags(file, (*PLACES, GDAL_METADATA, GDAL_NODATA), **where)
    nodata = None
    if GDAL_NODATA in tags:
        with suppress(ValueError):
            nodata = float(tags[GDAL_NODATA].data.split(b"\0")[0].decode("ascii", "replace"))
    return Geo(tags, nodata) if tags else None


def nodata_of(geo: Geo | None, dtype: np.dtype) -> float | None:
    """Returns the nodata value; None if there is none that pixels of this type can represent."""
    if geo is None or geo.nodata is None:
        return None
    if dtype == np.float32:
        with np.errstate(over="ignore"):
            return float(np.float32(geo.nodata))
    whole = geo.nodata == int(geo.nodata) if np.isfinite(geo.nodata) else False
    return geo.nodata if whole and 0 <= geo.nodata <= np.iinfo(dtype).max else None


def scaled_geo(geo: Geo, scale: tuple[float, float], keep_nodata: bool) -> Fields:
    """Returns the tags of the upscaled image, which covers the same area.

    Args:
        scale: Size of the result divided by that of the original image, (across, down).
        keep_nodata: Whether to keep the nodata value, which the pixels may be unable to represent.
    """
    tags = dict(geo.tags)
    if not keep_nodata:
        tags.pop(GDAL_NODATA, None)
    across, down = scale
    # If coordinates refer to pixel centres, (0, 0) is half a pixel away from the corner.
    middle = 0.5 if _is_point(tags) else 0.0
    if pixel := list(numbers(tags, PIXEL_SCALE)):
        tags[PIXEL_SCALE] = _doubles([pixel[0] / across, pixel[1] / down, *pixel[2:]])
    if TIEPOINTS in tags:
        points = np.array(numbers(tags, TIEPOINTS)).reshape(-1, 6)
        points[:, 0] = (points[:, 0] + middle) * across - middle
        points[:, 1] = (points[:, 1] + middle) * down - middle
        tags[TIEPOINTS] = _doubles(points.ravel())
    if len(matrix := numbers(tags, TRANSFORMATION)) == 16:
        from_old = np.array(matrix).reshape(4, 4)
        to_old = np.diag([1 / across, 1 / down, 1, 1])
        to_old[:2, 3] = middle / across - middle, middle / down - middle
        tags[TRANSFORMATION] = _doubles((from_old @ to_old).ravel())
    if len(rpc := list(numbers(tags, RPC))) == 92:  # lines and samples refer to pixel centres
        rpc[2], rpc[3] = (rpc[2] + 0.5) * down - 0.5, (rpc[3] + 0.5) * across - 0.5
        rpc[7], rpc[8] = rpc[7] * down, rpc[8] * across
        tags[RPC] = _doubles(rpc)
    if GDAL_METADATA in tags:  # its statistics are those of the original pixels
        kind, text = tags[GDAL_METADATA]
        tags[GDAL_METADATA] = Field(kind, STATISTICS.sub(b"", text))
    return tags


def _is_point(tags: Fields) -> bool:
    """Returns whether coordinates refer to pixel centres, not to corners."""
    values = numbers(tags, GEO_KEYS)[4:]  # after a header, four numbers a key
    return any(
        values[i] == RASTER_TYPE and values[i + 3] == POINT for i in range(0, len(values) - 3, 4)
    )


def _doubles(values: np.ndarray | list[float]) -> Field:
    return Field(DOUBLE, struct.pack(f"<{len(values)}d", *values))
