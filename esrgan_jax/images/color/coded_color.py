"""Reads colour tags inside coded images: AV1's sequence header and HEVC's VUI."""

from contextlib import suppress

AV1_SEQUENCE, HEVC_SEQUENCE = 1, 33  # types of units
ASPECT_IN_NUMBERS = 255

Code = tuple[int, int]  # primaries and transfer of ITU-T H.273


class _Bits:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> int:
        """Returns the next bits as a number; raises IndexError at the end."""
        first, last = self.at // 8, (self.at + count + 7) // 8
        if last > len(self.data):
            raise IndexError("no more bits")
        self.at += count
        number = int.from_bytes(self.data[first:last])
        return number >> (8 * last - self.at) & ((1 << count) - 1)

    def skip(self, *counts: int) -> None:
        """Skips the sum of `counts` bits."""
        self.at += sum(counts)

    def golomb(self) -> int:
        """Returns the next number in Exp-Golomb code."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def av1_color(data: bytes) -> Code | None:
    """Returns the code in the sequence header of AV1; None if there is none.

    Args:
        data: An av1C box after its first four bytes, or the beginning of a coded image.
    """
    at = 0
    with suppress(IndexError):
        while True:
            head, size = data[at], len(data)
            at += 2 if head & 4 else 1
            if head & 2:
                size = shift = 0
                while True:
                    size, more, at = size | (data[at] & 127) << shift, data[at] >> 7, at + 1
                    if not more or shift > 28:
                        break
                    shift += 7
            if head >> 3 & 15 == AV1_SEQUENCE:
                return _of_av1_sequence(_Bits(data[at : at + size]))
            at += size
    return None


def _of_av1_sequence(bits: _Bits) -> Code | None:
    """Reads a sequence header (section 5.5 of AV1's specification)."""
    profile, _, reduced = bits.take(3), bits.take(1), bits.take(1)
    if reduced:
        bits.skip(5)
    else:
        _skip_operating_points(bits)
    width, height = bits.take(4) + 1, bits.take(4) + 1
    bits.skip(width, height)
    if not reduced and bits.take(1):  # frame IDs
        bits.skip(4, 3)
    bits.skip(3)
    if not reduced:
        bits.skip(4)
        ordered = bits.take(1)
        bits.skip(2 * ordered)
        screen = 2 if bits.take(1) else bits.take(1)
        if screen and not bits.take(1):
            bits.skip(1)
        bits.skip(3 * ordered)
    bits.skip(3)
    if bits.take(1) and profile == 2:  # more than 8 bits
        bits.skip(1)
    if profile != 1:  # monochrome
        bits.skip(1)
    return (bits.take(8), bits.take(8)) if bits.take(1) else None


def _skip_operating_points(bits: _Bits) -> None:
    """Skips the timing and the operating points of a sequence header."""
    delay = None
    if bits.take(1):  # timing
        bits.skip(32, 32)
        if bits.take(1):
            bits.golomb()
        if bits.take(1):
            delay = bits.take(5) + 1
            bits.skip(32, 5, 5)
    shown_later = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.skip(12)
        if bits.take(5) > 7:
            bits.skip(1)
        if delay is not None and bits.take(1):
            bits.skip(delay, delay, 1)
        if shown_later and bits.take(1):
            bits.skip(4)


def hevc_color(configuration: bytes) -> Code | None:
    """Returns the code in the sequence parameters of an hvcC; None if there is none."""
    with suppress(IndexError):
        at = 23
        for _ in range(configuration[22]):
            kind, count = configuration[at] & 63, int.from_bytes(configuration[at + 1 : at + 3])
            at += 3
            for _ in range(count):
                size = int.from_bytes(configuration[at : at + 2])
                unit, at = configuration[at + 4 : at + 2 + size], at + 2 + size
                if kind == HEVC_SEQUENCE:  # without emulation prevention bytes
                    return _of_hevc_sequence(_Bits(unit.replace(b"\0\0\3", b"\0\0")))
    return None


def _of_hevc_sequence(bits: _Bits) -> Code | None:
    """Reads sequence parameters (sections 7.3.2.2 and E.2.1 of ITU-T H.265)."""
    bits.skip(4)
    layers = bits.take(3)
    bits.skip(1, 96)
    if layers:
        present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
        bits.skip(2 * (8 - layers), sum(88 * profile + 8 * level for profile, level in present))
    bits.golomb()
    if bits.golomb() == 3:
        bits.skip(1)
    _golombs(bits, 2)
    _golombs(bits, 4 * bits.take(1))  # conformance window
    _golombs(bits, 2)
    order = bits.golomb() + 4
    _golombs(bits, 3 * (layers + 1 if bits.take(1) else 1))
    _golombs(bits, 6)
    if bits.take(1) and bits.take(1):
        _skip_scaling_lists(bits)
    bits.skip(2)
    if bits.take(1):  # PCM blocks
        bits.skip(8)
        _golombs(bits, 2)
        bits.skip(1)
    for number in range(bits.golomb()):
        if number and bits.take(1):
            return None  # predicted from the previous one: only in videos, and long to read
        for _ in range(bits.golomb() + bits.golomb()):
            bits.golomb()
            bits.skip(1)
    if bits.take(1):
        bits.skip(bits.golomb() * (order + 1))
    bits.skip(2)
    return _of_vui(bits) if bits.take(1) else None


def _golombs(bits: _Bits, count: int) -> None:
    """Skips numbers in Exp-Golomb code."""
    for _ in range(count):
        bits.golomb()


def _skip_scaling_lists(bits: _Bits) -> None:
    """Skips scaling_list_data."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            # Signed numbers have the same length.
            _golombs(bits, (min(64, 16 << 2 * size) + (size > 1)) if bits.take(1) else 1)


def _of_vui(bits: _Bits) -> Code | None:
    """Reads the beginning of the VUI."""
    if bits.take(1) and bits.take(8) == ASPECT_IN_NUMBERS:
        bits.skip(32)
    if bits.take(1):
        bits.skip(1)
    if not bits.take(1):
        return None
    bits.skip(4)
    return (bits.take(8), bits.take(8)) if bits.take(1) else None
