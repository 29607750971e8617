"""Random crops and the eight flips and rotations, as pure functions."""

import numpy as np

from esrgan_jax.imresize import margin, mirror, mod_crop


def random_crop(
    element: dict[str, np.ndarray], rng: np.random.Generator, *, scale: int, hr_patch: int
) -> dict[str, np.ndarray]:
    """Crops a patch at a random position of the LR grid.

    The HR image is mod-cropped first, so that every LR pixel corresponds to scale² HR pixels.

    Args:
        element: "hr" (H, W, 3) and, in a paired source, "lr" (H // scale, W // scale, 3).
        rng: Draws the position.
        scale: HR size divided by LR size.
        hr_patch: Side P of the patch in HR pixels, a multiple of `scale`, at most the image's side.

    Returns:
        "hr" (P + 2m, P + 2m, 3) with m = margin(scale), as `degrade` needs it; for a pair
        "hr" (P, P, 3) and "lr" (P/scale, P/scale, 3).
    """
    hr = mod_crop(element["hr"], scale)
    top, left = (int(rng.integers((side - hr_patch) // scale + 1)) for side in hr.shape[:2])
    if "lr" not in element:
        return {"hr": crop(hr, scale * top, scale * left, hr_patch, margin(scale))}
    return {
        "lr": crop(element["lr"], top, left, hr_patch // scale),
        "hr": crop(hr, scale * top, scale * left, hr_patch),
    }


def crop(image: np.ndarray, top: int, left: int, size: int, around: int = 0) -> np.ndarray:
    """Crops (size + 2·around)² pixels; beyond the borders the image is mirrored.

    The mirror repeats the edge pixel, as in MATLAB's imresize.
    """
    height, width = image.shape[:2]
    rows = np.arange(top - around, top + size + around)
    columns = np.arange(left - around, left + size + around)
    if rows[0] >= 0 and columns[0] >= 0 and rows[-1] < height and columns[-1] < width:
        return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return image[mirror(rows, height)[:, None], mirror(columns, width)]


def augment(element: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Flips and rotates all arrays alike, by one of eight equally likely ways.

    MATLAB's kernel is symmetric, so `degrade` of the augmented patch is the augmented LR patch.
    """
    upside_down, mirrored, transposed = rng.integers(2, size=3).astype(bool)

    def turn(image: np.ndarray) -> np.ndarray:
        image = image[::-1] if upside_down else image
        image = image[:, ::-1] if mirrored else image
        return np.ascontiguousarray(image.swapaxes(0, 1) if transposed else image)

    return {name: turn(image) for name, image in element.items()}
