"""Random crops and the eight flips and rotations, as pure functions."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from esrgan_jax.data.decoded import Element, UnreadImage
from esrgan_jax.imresize import margin, mirror


def random_patch(
    element: Element,
    rng: np.random.Generator,
    *,
    scale: int,
    hr_patch: int,
    augmented: bool,
    around: int | None = None,
) -> dict[str, np.ndarray]:
    """Crops a patch by `random_crop`, and if `augmented` turns it by `augment`."""
    patch = random_crop(element, rng, scale=scale, hr_patch=hr_patch, around=around)
    return augment(patch, rng) if augmented else patch


def random_indices(
    element: Mapping[str, Any],
    rng: np.random.Generator,
    *,
    scale: int,
    hr_patch: int,
    augmented: bool,
    around: int | None = None,
) -> dict[str, Any]:
    """Returns which pixels `random_patch` would take, for images that are elsewhere.

    Args:
        element: The shapes (H, W, 3) of "hr" and, in a paired source, of "lr"; and "image", a
            number, which is passed on.
        rng: The generator that `random_patch` would get.
        scale: As for `random_crop`.
        hr_patch: As for `random_crop`.
        augmented: As for `random_patch`.
        around: As for `random_crop`.

    Returns:
        "image"; "transposed", a bool; and for "hr" and "lr" the "rows" and "columns" of the image,
        both (S,) int32. The patch is image[rows[:, None], columns], then transposed.
    """
    position = _random_position(element["hr"], rng, scale, hr_patch)
    upside_down, mirrored, transposed = _random_turn(rng) if augmented else (False, False, False)
    found: dict[str, Any] = {"image": element["image"], "transposed": np.bool_(transposed)}
    paired = "lr" in element
    for name in ("lr", "hr") if paired else ("hr",):
        unit, size = (1, hr_patch // scale) if name == "lr" else (scale, hr_patch)
        edge, multiple = (0, 1) if paired else (_edge(scale, around), scale)
        rows, columns = (
            _indices(unit * start, side - side % multiple, size, edge).astype(np.int32)
            for start, side in zip(position, element[name][:2], strict=True)
        )
        found[name] = {
            "rows": rows[::-1] if upside_down else rows,
            "columns": columns[::-1] if mirrored else columns,
        }
    return found


def random_crop(
    element: Element,
    rng: np.random.Generator,
    *,
    scale: int,
    hr_patch: int,
    around: int | None = None,
) -> dict[str, np.ndarray]:
    """Crops a patch at a random position of the LR grid.

    The rest of the HR image's sides beyond a multiple of the scale is left out, so that every LR
    pixel corresponds to scale² HR pixels.

    Args:
        element: "hr" (H, W, 3) and, in a paired source, "lr" (H // scale, W // scale, 3).
        rng: Draws the position.
        scale: HR size divided by LR size.
        hr_patch: Side P of the patch in HR pixels, a multiple of `scale`, at most the image's side.
        around: Pixels on every side of it, mirrored beyond the image; None: margin(scale), as
            `imresize.degrade` needs them. A pair has none.

    Returns:
        "hr" (P + 2 around, P + 2 around, 3); for a pair "hr" (P, P, 3) and
        "lr" (P/scale, P/scale, 3).
    """
    hr = element["hr"]
    top, left = _random_position(hr.shape, rng, scale, hr_patch)
    if "lr" not in element:
        return {"hr": crop(hr, scale * top, scale * left, hr_patch, _edge(scale, around), scale)}
    return {
        "lr": crop(element["lr"], top, left, hr_patch // scale),
        "hr": crop(hr, scale * top, scale * left, hr_patch),
    }


def crop(
    image: np.ndarray | UnreadImage,
    top: int,
    left: int,
    size: int,
    around: int = 0,
    multiple: int = 1,
) -> np.ndarray:
    """Crops (size + 2·around)² pixels; beyond the borders the image is mirrored.

    The mirror repeats the edge pixel, as in MATLAB's imresize. No other pixels are read.

    Args:
        image: (H, W, 3), of which the rest of H and W by `multiple` is left out.
        top: First row of the inner `size` pixels.
        left: First column of the inner `size` pixels.
        size: Side of the crop without what is around it.
        around: Pixels on every side.
        multiple: See `image`.
    """
    height, width = (side - side % multiple for side in image.shape[:2])
    rows, columns = (
        slice(max(start - around, 0), min(start + size + around, side))
        for start, side in ((top, height), (left, width))
    )
    part = image[rows, columns]
    if part.shape[:2] == (size + 2 * around, size + 2 * around):
        return part
    inner_rows = _indices(top, height, size, around) - rows.start
    return part[inner_rows[:, None], _indices(left, width, size, around) - columns.start]


def augment(element: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Flips and rotates all arrays alike, by one of eight equally likely ways.

    MATLAB's kernel is symmetric, so `degrade` of the augmented patch is the augmented LR patch.
    """
    upside_down, mirrored, transposed = _random_turn(rng)

    def turn(image: np.ndarray) -> np.ndarray:
        pixels = image.view(f"V{image.shape[-1]}")  # NumPy copies whole pixels in half the time
        pixels = pixels[::-1] if upside_down else pixels
        pixels = pixels[:, ::-1] if mirrored else pixels
        return np.ascontiguousarray(pixels.swapaxes(0, 1) if transposed else pixels).view(np.uint8)

    return {name: turn(image) for name, image in element.items()}


def _edge(scale: int, around: int | None) -> int:
    return margin(scale) if around is None else around


def _random_position(
    shape: tuple[int, ...], rng: np.random.Generator, scale: int, hr_patch: int
) -> tuple[int, int]:
    """Returns the top and the left of a patch in LR pixels."""
    height, width = shape[:2]
    top = rng.integers((height // scale * scale - hr_patch) // scale + 1)
    return int(top), int(rng.integers((width // scale * scale - hr_patch) // scale + 1))


def _random_turn(rng: np.random.Generator) -> tuple[bool, bool, bool]:
    """Returns whether to turn a patch upside down, to mirror it, and then to transpose it."""
    upside_down, mirrored, transposed = rng.integers(2, size=3).tolist()
    return bool(upside_down), bool(mirrored), bool(transposed)


def _indices(start: int, side: int, size: int, around: int) -> np.ndarray:
    """Returns the (size + 2·around,) rows or columns of a crop in an image with `side` of them."""
    return mirror(np.arange(start - around, start + size + around), side)
