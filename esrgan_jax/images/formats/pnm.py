"""Reads PBM, PGM and PPM files, text and binary, strip by strip."""

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

LONGEST_HEADER = 1 << 16  # bytes, with comments
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(rb"P([1-6])" + _GAP + rb"(\d+)" + _GAP + rb"(\d+)")
_MAXVAL = re.compile(_GAP + rb"(\d+)")


class PnmHeader(NamedTuple):
    """The header of a PNM file.

    Attributes:
        kind: The digit of the magic number, 1 to 6.
        maxval: The value of white, 1 to 65535; 1 for a bitmap.
        offset: Bytes before the pixels.
    """

    kind: int
    height: int
    width: int
    maxval: int
    offset: int

    @property
    def bands(self) -> int:
        return 3 if self.kind in (3, 6) else 1

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint16 if self.maxval > 255 else np.uint8)


def read_pnm_header(file: BinaryIO) -> PnmHeader:
    """Reads the header of an open file.

    Raises:
        ValueError: The header is damaged, or its size or maxval is invalid.
    """
    head = file.read(LONGEST_HEADER)
    match = _HEADER.match(head)
    if match is None:
        raise ValueError("its header is damaged")
    kind, width, height = map(int, match.groups())
    maxval, end = 1, match.end()
    if kind not in (1, 4):
        white = _MAXVAL.match(head, end)
        if white is None:
            raise ValueError("its header is damaged")
        maxval, end = int(white.group(1)), white.end()
    if not (height and width and 0 < maxval < 65536):
        raise ValueError(f"its header has {width}x{height} pixels and a maximum of {maxval}")
    return PnmHeader(kind, height, width, maxval, end + 1)


def pnm_rows(
    header: PnmHeader, open_file: Callable[[], BinaryIO], strip: int
) -> Iterator[np.ndarray]:
    """Yields strips (n, width, bands) of up to `strip` rows; white is 255 or 65535.

    Raises:
        ValueError: The file is truncated or contains an invalid number.
    """
    with open_file() as file:
        file.seek(header.offset)
        # Text files are small and rare, so they are read as a whole.
        text = _text_samples(header, file) if header.kind <= 3 else None
        for top in range(0, header.height, strip):
            shape = (min(strip, header.height - top), header.width, header.bands)
            if text is not None:
                samples = text[top : top + shape[0]]
            elif header.kind == 4:
                packed = _exactly(file, shape[0] * (-(-header.width // 8))).reshape(shape[0], -1)
                samples = 1 - np.unpackbits(packed, axis=1, count=header.width)[..., None]
            else:
                size = header.dtype.itemsize
                samples = _exactly(file, int(np.prod(shape)) * size).view(f">u{size}")
            yield _full_range(samples.reshape(shape), header)


def _exactly(file: BinaryIO, size: int) -> np.ndarray:
    data = file.read(size)
    if len(data) < size:
        raise ValueError("it is truncated")
    return np.frombuffer(data, np.uint8)


def _text_samples(header: PnmHeader, file: BinaryIO) -> np.ndarray:
    text = re.sub(rb"#[^\r\n]*", b"", file.read())
    shape = (header.height, header.width, header.bands)
    if header.kind == 1:  # there may be no space between the digits
        samples = 1 - (np.frombuffer(re.sub(rb"\s", b"", text), np.uint8) == ord("1"))
    else:
        words = text.split()[: np.prod(shape)]
        if wrong := next((word for word in words if not word.isdigit() or len(word) > 9), None):
            raise ValueError(f"its pixels contain {wrong[:20].decode(errors='replace')!r}")
        samples = np.array(words, dtype=np.int64)
    if len(samples) < np.prod(shape):
        raise ValueError("it is truncated")
    return samples[: np.prod(shape)].reshape(shape)


def _full_range(samples: np.ndarray, header: PnmHeader) -> np.ndarray:
    white = np.iinfo(header.dtype).max
    if (largest := samples.max(initial=0)) > header.maxval:
        raise ValueError(f"it contains {largest}, and its header has a maximum of {header.maxval}")
    if header.maxval == white:
        return samples.astype(header.dtype)
    scaled = np.rint(samples.astype(np.float64) * (white / header.maxval))
    return scaled.astype(header.dtype)
