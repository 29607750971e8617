"""Makes and checks ICC profiles, and converts them between gray and RGB."""

import struct

import numpy as np

GRAY_SPACE, RGB_SPACE = b"GRAY", b"RGB "
SPACES = {GRAY_SPACE: "gray", RGB_SPACE: "RGB", b"CMYK": "CMYK", b"Lab ": "Lab", b"XYZ ": "XYZ"}
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
# x and y of red, green, blue and white.
BT709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
Primaries = tuple[float, ...]
DAMAGED_PROFILE = "its colour profile is damaged and is dropped"


def gamma_curve(exponent: float) -> bytes:
    """Returns the curve element of light = value ** exponent."""
    return struct.pack(">4s4xHxxi", b"para", 0, _fixed(exponent))


def srgb_curve() -> bytes:
    """Returns the curve element of sRGB (IEC 61966-2-1)."""
    numbers = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return struct.pack(">4s4xHxx5i", b"para", 3, *map(_fixed, numbers))


def table_curve(light: np.ndarray) -> bytes:
    """Returns the curve element of light in [0, 1], given at evenly spaced values."""
    table = np.rint(np.clip(light, 0, 1) * 65535).astype(">u2")
    return struct.pack(">4s4xI", b"curv", len(table)) + table.tobytes()


def make_profile(
    name: str,
    curves: tuple[bytes, bytes, bytes] | bytes,
    primaries: Primaries = BT709,
    *,
    gray: bool = False,
    cicp: tuple[int, int, int, int] | None = None,
) -> bytes:
    """Returns an ICC profile (version 4) of class "display".

    Args:
        name: The description that programs show.
        curves: Of red, green and blue, or one for all.
        primaries: x and y of red, green, blue and white, which is adapted to ICC's D50.
        gray: Whether it is a profile of gray, which ignores the primaries.
        cicp: The equivalent code points of H.273, for programs that show HDR.
    """
    colorants = _colorants(primaries)
    tags = {b"desc": _text(name), b"cprt": _text("CC0"), b"wtpt": _xyz(D50)}
    if isinstance(curves, bytes):
        curves = (curves, curves, curves)
    if gray:
        tags[b"kTRC"] = curves[1]
    else:
        tags |= {b"rXYZ gXYZ bXYZ"[5 * i : 5 * i + 4]: _xyz(colorants[:, i]) for i in range(3)}
        tags |= {b"rTRC gTRC bTRC"[5 * i : 5 * i + 4]: curves[i] for i in range(3)}
        tags[b"chad"] = b"sf32\0\0\0\0" + _numbers(_adaptation(_white(primaries)).ravel())
    if cicp is not None:
        tags[b"cicp"] = b"cicp\0\0\0\0" + bytes(cicp)
    directory, data, places = struct.pack(">I", len(tags)), b"", {}
    start = 128 + 4 + 12 * len(tags)
    for tag, element in tags.items():
        if element not in places:  # equal curves are stored once
            places[element] = start + len(data)
            data += element + b"\0" * (-len(element) % 4)
        directory += struct.pack(">4sII", tag, places[element], len(element))
    header = struct.pack(
        ">I4xI4s4s4s6H4s28x12s48x",
        start + len(data),
        0x04400000,
        b"mntr",
        GRAY_SPACE if gray else RGB_SPACE,
        b"XYZ ",
        *(2026, 1, 1, 0, 0, 0),
        b"acsp",
        _numbers(D50),
    )
    return header + directory + data


def fault(icc: bytes, bands: int) -> str | None:
    """Returns why a profile cannot be used with pixels of `bands`; None if it can."""
    if icc[36:40] != b"acsp" or len(icc) < 132 or int.from_bytes(icc[:4]) > len(icc):
        return DAMAGED_PROFILE
    try:
        elements = _elements(icc)
    except (struct.error, ValueError):
        return DAMAGED_PROFILE
    space = icc[16:20]
    if space == RGB_SPACE and (bands > 2 or b"gTRC" in elements):
        return None
    if space == GRAY_SPACE and (bands < 3 or b"kTRC" in elements):
        return None
    kind = SPACES.get(space, "other colours")
    return f"its colour profile is dropped: it is for {kind}, and its pixels are not"


def fitted(icc: bytes, bands: int) -> bytes | None:
    """Converts a profile for pixels of `bands`: gray for 1 and 2, RGB for 3 and 4.

    Gray gets the curve of green. RGB gets the curve of gray and sRGB's primaries, with which equal
    values are the same gray.

    Returns:
        A profile, the same if it fits, or None if it is damaged or based on tables.
    """
    space = GRAY_SPACE if bands < 3 else RGB_SPACE
    if icc[16:20] == space:
        return icc
    try:
        curve = _elements(icc).get(b"gTRC" if space == GRAY_SPACE else b"kTRC")
    except (struct.error, ValueError):
        return None
    if curve is None or icc[16:20] not in (GRAY_SPACE, RGB_SPACE):
        return None
    return make_profile(
        "Gray" if space == GRAY_SPACE else "RGB of gray", curve, gray=space == GRAY_SPACE
    )


def _elements(icc: bytes) -> dict[bytes, bytes]:
    """Returns the elements by tag; raises struct.error or ValueError if damaged."""
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 1000:
        raise ValueError("a damaged profile")
    elements = {}
    for i in range(count):
        tag, offset, size = struct.unpack_from(">4sII", icc, 132 + 12 * i)
        if offset + size > len(icc):
            raise ValueError("a damaged profile")
        elements[tag] = icc[offset : offset + size]
    return elements


def _white(primaries: Primaries) -> np.ndarray:
    """Returns XYZ of white, with Y = 1."""
    x, y = primaries[6:8]
    return np.array([x / y, 1, (1 - x - y) / y])


def _adaptation(white: np.ndarray) -> np.ndarray:
    """Returns the Bradford matrix from a white (XYZ) to D50."""
    return np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD


def _colorants(primaries: Primaries) -> np.ndarray:
    """Returns XYZ of red, green and blue as columns, adapted to D50."""
    xy = np.array(primaries[:6]).reshape(3, 2)
    columns = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)])
    white = _white(primaries)
    return _adaptation(white) @ (columns * np.linalg.solve(columns, white))


def _fixed(number: float) -> int:
    """Returns a number as s15Fixed16."""
    return round(float(number) * 65536)


def _numbers(numbers: np.ndarray) -> bytes:
    return b"".join(struct.pack(">i", _fixed(number)) for number in numbers)


def _xyz(numbers: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _numbers(numbers)


def _text(text: str) -> bytes:
    data = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(data), 28) + data
