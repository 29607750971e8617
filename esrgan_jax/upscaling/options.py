"""Checks the options of an upscaler that do not depend on its network."""

from typing import Any

from esrgan_jax.errors import InputError
from esrgan_jax.upscaling.borders import BORDERS

LARGEST_SCALE = 100
LARGEST_SIDE = 1_000_000  # px of a result
LARGEST_TILE, LARGEST_OVERLAP = 16_384, 4_096  # LR px; beyond all receptive fields


def check_options(
    *,
    tile: int | None = None,
    overlap: int | None = None,
    exact: bool = False,
    seamless: str | None = None,
    strength: float = 1.0,
    color: str | None = None,
    dtype: str | None = None,
    **_: object,
) -> None:
    """Raises InputError if an option of `Upscaler` is invalid whatever the network."""
    if tile is not None and not 1 <= tile <= LARGEST_TILE:
        raise InputError(f"a tile of {tile} px must be 1 px or more, and at most {LARGEST_TILE}")
    if overlap is not None and overlap < 0:
        raise InputError(f"an overlap of {overlap} px is negative; give 0 or more")
    if overlap is not None and overlap > LARGEST_OVERLAP:
        raise InputError(f"an overlap of {overlap} px is too large; the most is {LARGEST_OVERLAP}")
    if exact and overlap is not None:
        raise InputError("exact chooses the overlap: give exact or overlap, not both")
    if tile is not None and overlap is not None and tile < overlap:
        raise InputError(f"a tile of {tile} px must be more than the overlap, {overlap}")
    if seamless not in (None, *BORDERS[1:]):
        raise InputError(f"seamless is {seamless!r}: choose {' or '.join(BORDERS[1:])}")
    if not 0 <= strength <= 1:  # false for NaN too
        raise InputError(f"a strength of {strength:g} is not within 0 (bicubic) to 1 (network)")
    if dtype not in (None, "float32", "bfloat16"):
        raise InputError(f"dtype is {dtype!r}: choose float32 or bfloat16")
    if color not in (None, "keep"):
        raise InputError(f"color is {color!r}: choose 'keep', or leave it out")


def result_size(
    shape: tuple[int, ...], scale: float | None, size: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Returns (height, width) of a result from --scale or --size, None if neither is given.

    Args:
        shape: (height, width) of the LR image.
        scale: Size of the result over that of the LR image, a positive number.
        size: (width, height); a side of 0 follows from the other.

    Raises:
        InputError: Both are given, or one is not positive or too large.
    """
    if scale is not None and size is not None:
        raise InputError("scale and size both say how large the result is: give one")
    if scale is not None:
        if not 0 < scale < float("inf"):
            raise InputError(f"a scale of {scale:g} is not a positive number")
        if scale > LARGEST_SCALE:
            raise InputError(f"a scale of {scale:g} is too large; the most is {LARGEST_SCALE}")
        height, width = (max(round(side * scale), 1) for side in shape)
        return height, width
    if size is None:
        return None
    width, height = size
    if width < 0 or height < 0 or not (width or height):
        raise InputError(f"a size of {width}x{height} px: give WIDTHxHEIGHT, one of them may be 0")
    if max(width, height) > LARGEST_SIDE:
        raise InputError(f"a size of {width}x{height} px: a side has at most {LARGEST_SIDE} px")
    height = height or max(round(width * shape[0] / shape[1]), 1)
    width = width or max(round(height * shape[1] / shape[0]), 1)
    factor = max(height / shape[0], width / shape[1])
    if factor > LARGEST_SCALE:
        raise InputError(
            f"a size of {width}x{height} px is {factor:.5g} times that of the image, "
            f"{shape[1]}x{shape[0]}; the most is {LARGEST_SCALE} times"
        )
    return height, width


def best_dtype(device: Any) -> str:
    """Returns bfloat16 on TPUs and on GPUs with units for it (from Ampere on), else float32."""
    if device.platform == "tpu":
        return "bfloat16"
    capability = str(getattr(device, "compute_capability", "0"))  # of NVIDIA: "8.0"
    fast = device.platform == "gpu" and capability.split(".")[0].isdecimal()
    return "bfloat16" if fast and int(capability.split(".")[0]) >= 8 else "float32"
