"""Names of files and folders: `~`, several with commas, weights, and the workdir."""

import os
import re
from pathlib import Path

from etils import epath

from esrgan_jax import bucket
from esrgan_jax.errors import InputError
from esrgan_jax.training.run_config import Config

WEIGHTED = re.compile(r"(.*):(\d+(?:\.\d+)?)")


def folders(value: str | None, key: str) -> list[str]:
    """Returns the folders of a setting that takes no weights; see `mixture`."""
    names, weights = mixture(value, key)
    if weights:
        raise InputError(f"{key} is {value!r:.200}: only data.train takes weights")
    return names


def mixture(value: str | None, key: str) -> tuple[list[str], list[float]]:
    """Returns the folders of a setting, separated by commas, with `~` expanded, and their weights.

    A weight follows a colon, as in "DF2K:3,OST:1". Folder names can contain commas and colons: the
    longest name that exists is used.

    Args:
        value: The setting's value; None and "" give no folders.
        key: The setting's key, for messages.

    Returns:
        The names, and as many weights above 0; no weights if the setting has none.

    Raises:
        InputError: A name between commas is empty, or only some have a weight, or one has 0.
    """
    parts = (value or "").split(",")
    found: list[tuple[str, float | None]] = []
    while parts and value:
        ends = range(len(parts), 0, -1)
        joined = (_weighted(os.path.expanduser(",".join(parts[:end]))) for end in ends)
        end, named = next(
            ((e, n) for e, n in zip(ends, joined, strict=True) if n[0] and os.path.exists(n[0])),
            (1, _weighted(os.path.expanduser(parts[0]))),
        )
        if not named[0].strip():
            raise InputError(f"{key} is {value!r:.200}: a folder's name between commas is empty")
        found.append(named)
        parts = parts[end:]
    weights = [weight for _, weight in found if weight is not None]
    if weights and (len(weights) < len(found) or not all(weights)):
        raise InputError(
            f"{key} is {value!r:.200}: give each folder a weight above 0, as DF2K:3,OST:1, or none"
        )
    return [name for name, _ in found], weights


def path(value: str | None) -> str | None:
    """Returns the path of a setting with `~` expanded, or None for None and ""."""
    return os.path.expanduser(value) if value else None


def workdir_path(workdir: str) -> epath.Path:
    """Returns the absolute path of a workdir, with `~` expanded.

    Raises:
        InputError: It has no name, or is in a bucket that cannot be used.
    """
    if not workdir:
        raise InputError("the workdir's name is empty: give a folder by --workdir=DIR")
    if "://" in workdir:
        return bucket.opened(workdir, "--workdir=")
    return epath.Path(workdir).expanduser().resolve()


def check_apart(workdir: epath.Path, config: Config) -> None:
    """Raises InputError if the workdir is in a folder of images, where its samples would count."""
    for key in ("train", "train_lr", "val", "val_lr"):
        value = config.data.get(key)
        names = mixture(value, key)[0] if key.startswith("train") else filter(None, [path(value)])
        for name in names:
            if not bucket.is_bucket(workdir) and workdir.is_relative_to(Path(name).resolve()):
                raise InputError(
                    f"--workdir={workdir} is in data.{key}, {name}, so the sample images of the "
                    "run would count as images of that folder: choose a workdir outside of it"
                )


def _weighted(name: str) -> tuple[str, float | None]:
    """Splits "NAME:WEIGHT", unless there is a file of that whole name."""
    match = WEIGHTED.fullmatch(name)
    if match is None or os.path.exists(name):
        return name, None
    return match[1], float(match[2])
