"""Makes ICC profiles from the colour tags of files without a profile.

The tags are chunks in PNG, boxes in HEIF and AVIF, tags in TIFF, and EXIF in JPEG. All become a
profile, which every output format with colour information can hold.
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
# Transfers of television are taken as sRGB, which programs mean when they use them for stills.
AS_SRGB = {0, 1, UNKNOWN, 3, 6, 11, 12, 13, 14, 15}
PQ, HLG = 16, 18
WHITE_NITS = 203  # of diffuse white in HDR (ITU-R BT.2408)
SHOULDER = 0.5  # of white; brighter HDR light is compressed to stay below white
TABLE = 4096


class Cicp(NamedTuple):
    """Code points of H.273; `full` is 0 if black is at 16/255 and white at 235/255."""

    primaries: int
    transfer: int
    full: int = 1


class Color(NamedTuple):
    """The colour space of a file: a profile, or None for sRGB; and notes for the user."""

    icc: bytes | None = None
    notes: tuple[str, ...] = ()


def cicp_color(cicp: Cicp, gray: bool) -> Color:
    """Returns the colour space of code points, from cICP of PNG or nclx of HEIF and AVIF."""
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
            f"it is HDR ({hdr}): its values are kept with an HDR colour profile; programs without "
            "HDR compress its highlights, and 8 bits show banding",
        )
    return Color(icc, notes)


def _cicp_curve(cicp: Cicp) -> bytes | None:
    """Returns the curve element of a transfer; None if its number is unknown."""
    if cicp.full and cicp.transfer in AS_SRGB:
        return srgb_curve()
    if cicp.full and (exponent := {4: 2.2, 5: 2.8, 8: 1.0}.get(cicp.transfer)):
        return gamma_curve(exponent)
    value = np.linspace(0, 1, TABLE)
    light = _light(value if cicp.full else np.clip((value * 255 - 16) / 219, 0, 1), cicp.transfer)
    return None if light is None else table_curve(light)


def _light(v: np.ndarray, transfer: int) -> np.ndarray | None:
    """Returns the light of values in [0, 1]; 1 is white, also in HDR. None if unknown."""
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
            return _compressed(light ** (1 / 0.1593017578125) * 10_000 / WHITE_NITS)
        case 18:
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            scene = np.where(v <= 0.5, v * v / 3, (np.exp((v - c) / a) + b) / 12)
            # On a screen of 1,000 cd/m², whose gamma is 1.2; exact for gray.
            return _compressed(scene**1.2 * 1000 / WHITE_NITS)
    return None


def _compressed(light: np.ndarray) -> np.ndarray:
    """Compresses HDR light above SHOULDER, so that all of it is below white."""
    above = (light - SHOULDER) / (1 - SHOULDER)
    return np.where(light <= SHOULDER, light, 1 - (1 - SHOULDER) * np.exp(-above))


def chromatic_color(
    curves: tuple[bytes, bytes, bytes] | bytes, primaries: Primaries | None, gray: bool, name: str
) -> Color:
    """Returns the colour space of primaries and curves that a file gives as numbers.

    Args:
        curves: Of red, green and blue, or one for all.
        primaries: x and y of red, green, blue and white; None for sRGB's.
        name: A name for the profile.
    """
    if primaries is not None and not _is_valid(primaries):
        return chromatic_color(curves, None, gray, name)._replace(
            notes=("its primaries are invalid, so those of sRGB are used",)
        )
    if primaries is None or np.allclose(primaries, BT709, atol=2e-3):
        primaries = BT709
    if curves == srgb_curve() and (gray or primaries == BT709):
        return Color()
    return Color(make_profile(name, curves, primaries, gray=gray))


def _is_valid(primaries: Primaries) -> bool:
    """Whether white is inside the triangle of the three colours."""
    if min(primaries[1::2]) < 0 or primaries[7] <= 0:
        return False
    xy = np.array(primaries).reshape(4, 2)
    columns = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)])
    if abs(np.linalg.det(columns[:, :3])) < 1e-4:
        return False
    return bool((np.linalg.solve(columns[:, :3], columns[:, 3]) > 0).all())


def adobe_rgb() -> bytes:
    """Returns a profile of Adobe RGB (1998)."""
    return make_profile("Adobe RGB (1998)", gamma_curve(ADOBE_GAMMA), ADOBE_RGB)
