"""Finds the LR image of each HR image, for training and evaluation."""

from pathlib import Path

from esrgan_jax.errors import InputError, listed
from esrgan_jax.images.image_file import find_images


def find_pairs(hr_folder: Path, lr_folder: Path, scale: int) -> list[tuple[Path, Path]]:
    """Pairs the images of two folders, including sub-folders, by their names.

    The two images of a pair have the same path below their folders, except for the suffix and for
    the usual endings: `0001.png` and `0001x4.png` (DIV2K; also `_x4`), `a_HR.png` and `a_LR4.png`
    (RealSR; also `_LR`), where 4 is the scale.

    Returns:
        (HR image, LR image), sorted by the HR image.

    Raises:
        InputError: A folder is missing or empty, or an image of either has no partner.
    """
    hr_paths, lr_paths = _by_name(hr_folder), _by_name(lr_folder)
    pairs, alone = [], []
    for name, hr in hr_paths.items():
        stem = name.removesuffix("_HR")
        endings = ("", f"x{scale}", f"_x{scale}", "_LR", f"_LR{scale}")
        forms = (name, *(stem + ending for ending in endings))
        lr = next((lr_paths.pop(form) for form in forms if form in lr_paths), None)
        if lr is None:
            alone.append(str(hr))
        else:
            pairs.append((hr, lr))
    alone += map(str, lr_paths.values())
    if alone:
        raise InputError(
            f"{len(alone)} images of {hr_folder} and {lr_folder} have no partner: "
            f"{listed(alone)}; the LR of NAME or NAME_HR is NAME, NAMEx{scale}, NAME_x{scale}, "
            f"NAME_LR or NAME_LR{scale}"
        )
    return pairs


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_images(folder):
        other = found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
        if other != path:
            raise InputError(f"{other} and {path} differ only in the suffix: remove one")
    return found
