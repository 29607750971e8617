"""Passes computed rows to libvips as if they were a file.

libvips reads pixels from files. It therefore sees the rows as an uncompressed BigTIFF that never
exists on disk: the header is made first, and each strip of pixels is passed on when libvips reads
that far. It reads in order, so only one strip is in memory at a time.
"""

import struct
import threading

import numpy as np
import pyvips

STRIP_BYTES = 1 << 19


def tiff_header(
    height: int, width: int, bands: int, dtype: np.dtype, extra: tuple[int, ...] = ()
) -> tuple[bytes, int]:
    """Returns the header of an uncompressed BigTIFF and the size of the whole file in bytes.

    Args:
        extra: TIFF's kinds of the last bands; empty, the last of 2 or 4 bands is alpha.
    """
    if bands in (2, 4) and not extra:
        extra = (2,)  # unassociated alpha
    row = width * bands * dtype.itemsize
    rows = max(1, min(height, STRIP_BYTES // row))
    count = -(-height // rows)
    sizes = np.full(count, rows * row, "<u8")
    sizes[-1] = height * row - (count - 1) * rows * row
    fields = {
        256: ("<u4", [width]),
        257: ("<u4", [height]),
        258: ("<u2", [8 * dtype.itemsize] * bands),
        259: ("<u2", [1]),  # not compressed
        262: ("<u2", [1 if bands - len(extra) < 3 else 2]),  # gray, RGB
        273: ("<u8", np.zeros(count)),  # offsets of the strips, filled in below
        277: ("<u2", [bands]),
        278: ("<u4", [rows]),
        279: ("<u8", sizes),
        339: ("<u2", [3 if dtype.kind == "f" else 1] * bands),
    }
    if extra:
        fields[338] = ("<u2", list(extra))
    types = {"<u2": 3, "<u4": 4, "<u8": 16}
    start = 16 + 8 + 20 * len(fields) + 8
    pixels = start + sum(len(v) * int(t[2]) for t, v in fields.values() if len(v) * int(t[2]) > 8)
    fields[273] = ("<u8", pixels + rows * row * np.arange(count))
    head, values = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(fields)), b""
    for tag, (kind, value) in sorted(fields.items()):
        data = np.asarray(value).astype(kind).tobytes()
        if len(data) > 8:
            data, values = struct.pack("<Q", start + len(values)), values + data
        head += struct.pack("<HHQ8s", tag, types[kind], len(value), data)
    return head + bytes(8) + values, pixels + height * row


class RowSource:
    """A virtual file of `height` rows for libvips, filled by another thread.

    One thread calls `feed` for each strip and then `end`. A second one reads `image`, and calls
    `stop` when it needs no more rows, whether it succeeded or failed.
    """

    def __init__(
        self,
        height: int,
        width: int,
        bands: int,
        dtype: np.dtype,
        extra: tuple[int, ...] = (),
    ):
        self._header, self._size = tiff_header(height, width, bands, dtype, extra)
        self._position = 0  # of the reader
        self._next_byte = len(self._header)  # offset of the next pixels
        self._rest = memoryview(b"")
        self._next: memoryview | None = None
        self._ended = self._stopped = False
        self._changed = threading.Condition()
        self._source = pyvips.SourceCustom()
        self._source.on_read(self._read)
        self._source.on_seek(self._seek)
        self.image = pyvips.Image.tiffload_source(
            self._source, access="sequential", fail_on="error", unlimited=True
        )

    def feed(self, strip: np.ndarray) -> bool:
        """Waits until the previous strip is taken; returns False if no more strips are needed."""
        data = np.ascontiguousarray(strip).data.cast("B")
        with self._changed:
            self._changed.wait_for(lambda: self._next is None or self._stopped)
            self._next = data
            self._changed.notify_all()
            return not self._stopped

    def end(self) -> None:
        """Marks the end of the strips; if the reader needs more, it sees a truncated file."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Releases the thread that feeds: no more strips are needed."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _take(self) -> memoryview:
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._ended)
            data, self._next = self._next, None
            self._changed.notify_all()
            return memoryview(b"") if data is None else data

    def _read(self, size: int) -> bytes:
        if self._position < len(self._header):
            data = self._header[self._position : self._position + size]
            self._position += len(data)
            return data
        if self._position != self._next_byte:
            return b""  # libvips never reads backwards; if it did, the write would fail
        data = bytearray()
        while len(data) < size:
            if not self._rest:
                self._rest = self._take()
                if not self._rest:
                    break
            piece = self._rest[: size - len(data)]
            self._rest = self._rest[len(piece) :]
            data += piece
        self._next_byte += len(data)
        self._position = self._next_byte
        return bytes(data)

    def _seek(self, offset: int, whence: int) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position
