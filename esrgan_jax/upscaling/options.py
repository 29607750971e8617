"""What the options of an upscaler may be, whatever its network is."""

from typing import Any

from esrgan_jax.errors import InputError
from esrgan_jax.models.borders import BORDERS

LARGEST_SCALE = 100
LARGEST_SIDE = 1_000_000  # px of a result
LARGEST_TILE, LARGEST_OVERLAP = 16_384, 4_096  # LR px; no network sees so far


def check_options(
    *,
    tile: int | None = None,
    overlap: int | None = None,
    exact: bool = False,
    seamless: str | None = None,
    strength: float = 1.0,
    color: str | None = None,
    dtype: str | None = None,
    **_: Any,
) -> None:
    """InputError where an option of `Upscaler` cannot be with any network."""
    if tile is not None and not 1 <= tile <= LARGEST_TILE:
        raise InputError(f"a tile of {tile} px must be 1 px or more, and at most {LARGEST_TILE}")
    if overlap is not None and overlap < 0:
        raise InputError(f"an overlap of {overlap} px is negative; give 0 or more")
    if overlap is not None and overlap > LARGEST_OVERLAP:
        raise InputError(f"an overlap of {overlap} px is too large; the most is {LARGEST_OVERLAP}")
    if exact and overlap is not None:
        raise InputError("exact chooses the overlap: leave one of both out")
    if tile is not None and overlap is not None and tile < overlap:
        raise InputError(f"a tile of {tile} px must be more than the overlap, {overlap}")
    if seamless not in (None, *BORDERS[1:]):
        raise InputError(f"seamless is {seamless!r}: choose {' or '.join(BORDERS[1:])}")
    if not 0 <= strength <= 1:  # nor what is no number
        raise InputError(f"a strength of {strength:g} is not within 0 (bicubic) to 1 (network)")
    if dtype not in (None, "float32", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}: choose float32 or bfloat16")
    if color not in (None, "keep"):
        raise InputError(f"color is {color!r}: choose 'keep', or leave it out")
