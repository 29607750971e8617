"""Makes ICC profiles from colour tags of files without a profile.

PNG has chunks for it, HEIF and AVIF boxes, TIFF tags and JPEG a convention in EXIF. All become a
profile, since that is what every format that is written can carry.
"""

from typing import NamedTuple

import numpy as np

from esrgan_jax.images.color.icc import (
    BT709,
    Primaries,
    gamma_curve,
    make_profile,
    srgb_curve,
    table_curve,
)

D65, C, E, DCI = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3), (0.314, 0.351)
# ITU-T H.273, table 2: x and y of red, green, blue and white.
PRIMARIES: dict[int, Primaries] = {
    1: BT709,
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *C),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *D65),
    8: (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *C),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),
    10: (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, *E),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *DCI),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),
    22: (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *D65),
}
NAMES = {1: "BT.709", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
ADOBE_RGB: Primaries = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *D65)
ADOBE_GAMMA = 563 / 256
UNKNOWN = 2
# Those of television are shown like sRGB: what makes still images means that when it writes them.
AS_SRGB = {0, 1, UNKNOWN, 3, 6, 11, 12, 13, 14, 15}
PQ, HLG = 16, 18
WHITE_NITS = 203  # of paper in an HDR image (ITU-R BT.2408)
SHOULDER = 0.5  # of white: HDR that is brighter is drawn together below white
TABLE = 4096


class Cicp(NamedTuple):
    """Code points of H.273: `full` is 0 where black and white are at 16/255 and 235/255."""

    primaries: int
    transfer: int
    full: int = 1


class Color(NamedTuple):
    """What a file says of its colours: a profile, None for sRGB; and what the user should know."""

    icc: bytes | None = None
    notes: tuple[str, ...] = ()


def cicp_color(cicp: Cicp, gray: bool) -> Color:
    """The profile of code points of PNG's cICP, or of the nclx of HEIF and AVIF."""
    primaries = PRIMARIES.get(cicp.primaries, BT709)
    if primaries == BT709 and cicp.transfer in AS_SRGB and cicp.full:
        return Color()
    curve = _cicp_curve(cicp)
    if curve is None:
        return Color(notes=(f"its colours (transfer {cicp.transfer} of H.273) are taken as sRGB",))
    hdr = {PQ: "PQ", HLG: "HLG"}.get(cicp.transfer)
    name = " ".join(filter(None, [NAMES.get(cicp.primaries, f"H.273 {cicp.primaries}"), hdr]))
    code = (cicp.primaries, cicp.transfer, 0, cicp.full)
    icc = make_profile(name, curve, primaries, gray=gray, cicp=None if gray else code)
    notes = ()
    if hdr:
        notes = (
            f"it is HDR ({hdr}): its values are kept with a colour profile that says so; "
            "programs without HDR draw its lights together, and 8 bits show bands",
        )
    return Color(icc, notes)


def _cicp_curve(cicp: Cicp) -> bytes | None:
    """The curve element of a transfer; None if its number has no meaning."""
    if cicp.full and cicp.transfer in AS_SRGB:
        return srgb_curve()
    if cicp.full and (exponent := {4: 2.2, 5: 2.8, 8: 1.0}.get(cicp.transfer)):
        return gamma_curve(exponent)
    value = np.linspace(0, 1, TABLE)
    light = _light(value if cicp.full else np.clip((value * 255 - 16) / 219, 0, 1), cicp.transfer)
    return None if light is None else table_curve(light)


def _light(v: np.ndarray, transfer: int) -> np.ndarray | None:
    """What is shown at a value in [0, 1]: 1 is white, also in HDR."""
    if transfer in AS_SRGB:
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    match transfer:
        case 4 | 5 | 8:
            return v ** {4: 2.2, 5: 2.8, 8: 1.0}[transfer]
        case 7:
            return np.where(v < 0.0913, v / 4, ((v + 0.1115) / 1.1115) ** (1 / 0.45))
        case 9:
            return np.where(v > 0, 10 ** (2 * (v - 1)), 0)
        case 10:
            return np.where(v > 0, 10 ** (2.5 * (v - 1)), 0)
        case 17:
            return np.minimum(v**2.6 * 52.37 / 48, 1)
        case 16:
            p = v ** (1 / 78.84375)
            light = np.maximum(p - 0.8359375, 0) / (18.8515625 - 18.6875 * p)
            return _drawn_together(light ** (1 / 0.1593017578125) * 10_000 / WHITE_NITS)
        case 18:
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            scene = np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)
            # On a screen of 1,000 cd/m², whose gamma is 1.2; exact for gray.
            return _drawn_together(scene**1.2 * 1000 / WHITE_NITS)
    return None


def _drawn_together(light: np.ndarray) -> np.ndarray:
    """HDR below white: unchanged up to the shoulder, and never quite white above it."""
    above = (light - SHOULDER) / (1 - SHOULDER)
    return np.where(light <= SHOULDER, light, 1 - (1 - SHOULDER) * np.exp(-above))


def chromatic_color(
    curves: tuple[bytes, bytes, bytes] | bytes, primaries: Primaries | None, gray: bool, name: str
) -> Color:
    """The profile of primaries and curves that a file gives in numbers.

    Args:
        primaries: x and y of red, green, blue and white; None for sRGB's.
    """
    if primaries is not None and not _makes_sense(primaries):
        return chromatic_color(curves, None, gray, name)._replace(
            notes=("its primaries are none of colours, and taken as those of sRGB",)
        )
    if primaries is None or np.allclose(primaries, BT709, atol=2e-3):
        primaries = BT709
    if curves == srgb_curve() and (gray or primaries == BT709):
        return Color()
    return Color(make_profile(name, curves, primaries, gray=gray))


def _makes_sense(primaries: Primaries) -> bool:
    """Whether white is within the triangle of three different colours."""
    if min(primaries[1::2]) < 0 or primaries[7] <= 0:
        return False
    xy = np.array(primaries).reshape(4, 2)
    columns = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)])
    if abs(np.linalg.det(columns[:, :3])) < 1e-4:
        return False
    return bool((np.linalg.solve(columns[:, :3], columns[:, 3]) > 0).all())


def adobe_rgb() -> bytes:
    """The profile of Adobe RGB (1998)."""
    return make_profile("Adobe RGB (1998)", gamma_curve(ADOBE_GAMMA), ADOBE_RGB)
