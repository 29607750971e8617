"""Sources of training images with random access, as Grain needs them."""

import itertools
import os
import sys
import threading
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from esrgan_jax.data.pairs import find_pairs
from esrgan_jax.errors import InputError, RunError, listed, missing, printable
from esrgan_jax.images.image_file import find_images, image_size, read_image
from esrgan_jax.progress import Progress

MEMORY = 2 << 30  # in each process: every Grain worker keeps images of its own
RECORDS = 64  # at least so many are looked at to see whether a prepared folder has changed
StrPath = str | os.PathLike[str]
TFDS = ("prepared folders", "TensorFlow Datasets", "tensorflow-datasets")  # for `missing`


class Source(Protocol):
    """{"hr": (H, W, 3)} or {"lr": (h, w, 3), "hr": (H, W, 3)}, uint8, by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...

    def files(self) -> dict[str, int]:
        """The bytes of each file, by its name below the folder: tells whether images changed."""
        ...


def open_source(
    paths: StrPath | Sequence[StrPath],
    lr_paths: StrPath | Sequence[StrPath] | None = None,
    *,
    scale: int,
    min_size: int,
) -> Source:
    """Opens folders of images, pairs of folders, or data that `esrgan-jax prepare` made.

    Args:
        paths: One or several folders of HR images, or one prepared folder.
        lr_paths: Their LR partners, folder by folder; then nothing is degraded.
        scale: HR pixels for one LR pixel.
        min_size: The smallest side that an HR image may have, in pixels: the patch.

    Raises:
        InputError: Nothing there can be used.
    """
    folders = _several(paths)
    if not folders:
        raise InputError("no training images: name a folder of them")
    prepared = [folder for folder in folders if (folder / "dataset_info.json").is_file()]
    if lr_paths is not None:
        lr_folders = _several(lr_paths)
        if prepared:
            raise InputError(f"{prepared[0]}: holds HR alone; pairs are read from two folders")
        return PairedFolder(lr_folders, folders, scale, min_size)
    if not prepared:
        return ImageFolder(folders, min_size)
    if len(folders) > 1:
        raise InputError(
            f"{prepared[0]}: is a prepared folder and must stand alone; give all folders of "
            "images to one run of `esrgan-jax prepare`"
        )
    source = ArrayRecordSource(folders[0])
    size = min(source[0]["hr"].shape[:2])  # sub-images are all of one size
    if size < min_size:
        raise InputError(
            f"{folders[0]}: its sub-images have {size} pixels a side, patches need {min_size}: "
            "prepare it again with a larger --size"
        )
    return source


class ImageFolder:
    """All HR images of one or several folders and of their sub-folders.

    Images that are too small or whose header cannot be read are named on stderr and left out.
    Decoded images are kept in memory as long as they fit in `memory` bytes: a small set is read
    thousands of times. An image whose pixels turn out to be corrupt is named once, and the next
    one takes its place, so that it does not end a run of days.

    Raises:
        InputError: A folder is missing or empty, or no image is left.
    """

    def __init__(
        self, folders: StrPath | Sequence[StrPath], min_size: int, memory: int = MEMORY
    ) -> None:
        self._folders = _several(folders)
        paths = [path for folder in self._folders for path in find_images(folder)]
        sizes = _sizes(paths, min_size)
        self._images = _Images([{"hr": path} for path in paths if path in sizes], memory)

    def __len__(self) -> int:
        return len(self._images.items)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self._images.read(index)

    def files(self) -> dict[str, int]:
        """See `Source`."""
        return _files([item["hr"] for item in self._images.items], self._folders)


class PairedFolder:
    """Pairs of LR and HR images: real-world data, or LR made by somebody else.

    Partners are those of `pairs.find_pairs`. Skipping, memory and corrupt pixels are as
    in `ImageFolder`.

    Raises:
        InputError: Partners are missing, or an LR image has not (H // scale, W // scale) pixels.
    """

    def __init__(
        self,
        lr_folder: StrPath | Sequence[StrPath],
        hr_folder: StrPath | Sequence[StrPath],
        scale: int,
        min_size: int,
        memory: int = MEMORY,
    ) -> None:
        lr_folders, hr_folders = _several(lr_folder), _several(hr_folder)
        if len(lr_folders) != len(hr_folders):
            raise InputError(
                f"{len(lr_folders)} LR folders for {len(hr_folders)} HR folders: give one for each"
            )
        pairs = [
            pair
            for lr, hr in zip(lr_folders, hr_folders, strict=True)
            for pair in find_pairs(hr, lr, scale)
        ]
        hr_sizes = _sizes([hr for hr, _ in pairs], min_size)
        lr_sizes = _sizes([lr for hr, lr in pairs if hr in hr_sizes], 1)
        pairs = [(hr, lr) for hr, lr in pairs if lr in lr_sizes and hr in hr_sizes]
        wrong = [
            f"{lr} has {_by(lr_sizes[lr])}, {hr} has {_by(hr_sizes[hr])}"
            for hr, lr in pairs
            if lr_sizes[lr] != tuple(side // scale for side in hr_sizes[hr])
        ]
        if wrong:
            raise InputError(
                f"{len(wrong)} of {len(pairs)} pairs do not have LR = HR / {scale}: {listed(wrong)}"
            )
        self._folders = [*hr_folders, *lr_folders]
        self._images = _Images([{"lr": lr, "hr": hr} for hr, lr in pairs], memory)

    def __len__(self) -> int:
        return len(self._images.items)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self._images.read(index)

    def files(self) -> dict[str, int]:
        """See `Source`."""
        paths = [path for item in self._images.items for path in item.values()]
        return _files(paths, self._folders)


class ArrayRecordSource:
    """The sub-images that tools/prepare_data.py cut, as raw bytes: no decoding at all.

    Raises:
        InputError: The folder is none of these, or files of it are missing.
    """

    def __init__(self, folder: StrPath) -> None:
        # Slow to import, and needed by those alone who prepared their data.
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise missing(*TFDS) from error
        self._folder = Path(folder)
        try:
            builder = tfds.builder_from_directory(folder)
            self._records = builder.as_data_source("train")  # pyright: ignore[reportCallIssue]
            for index in (0, len(self._records) - 1):  # the first and the last file are there
                self._records[index]["hr"]
        except Exception as error:  # TFDS and ArrayRecord raise nearly every kind there is
            raise InputError(
                f"{folder}: cannot be read as prepared data ({type(error).__name__}: {error}); "
                "make it again with `esrgan-jax prepare`"
            ) from error

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {"hr": self._records[index]["hr"]}

    def files(self) -> dict[str, int]:
        """See `Source`; with checksums of some records, since files are filled up to blocks."""
        files = _files(sorted(self._folder.glob("*.array_record*")), [self._folder])
        some = range(0, len(self), max(len(self) // RECORDS, 1))
        return files | {f"record {i}": zlib.crc32(self[i]["hr"].tobytes()) for i in some}


class _Images:
    """Decodes the images of an item, and keeps them while they fit in `memory` bytes."""

    def __init__(self, items: list[dict[str, Path]], memory: int) -> None:
        self.items = items
        self._memory = memory
        self._forget()

    def read(self, index: int) -> dict[str, np.ndarray]:
        places = range(len(self.items))
        first = places[index]  # an index out of range ends a loop over the source
        for place in itertools.chain(places[first:], places[:first]):
            if place in self._bad:
                continue
            try:
                return self._kept.get(place) or self._decode(place)
            except InputError as error:
                with self._lock:
                    if place not in self._bad:
                        said = printable(f"warning: {error}; using the next one")
                        print(said, file=sys.stderr)
                    self._bad.add(place)
        raise RunError("no training image can be read any more")

    def _decode(self, place: int) -> dict[str, np.ndarray]:
        images = {name: read_image(path) for name, path in self.items[place].items()}
        size = sum(image.nbytes for image in images.values())
        with self._lock:
            if place not in self._kept and self._used + size <= self._memory:
                self._kept[place] = images
                self._used += size
        return images

    def _forget(self) -> None:
        self._kept: dict[int, dict[str, np.ndarray]] = {}
        self._bad: set[int] = set()
        self._used = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[list[dict[str, Path]], int]:
        return self.items, self._memory

    def __setstate__(self, state: tuple[list[dict[str, Path]], int]) -> None:
        self.items, self._memory = state
        self._forget()


def _sizes(paths: list[Path], min_size: int) -> dict[Path, tuple[int, int]]:
    """(height, width) of the images that can be used; the others are named on stderr."""
    sizes, skipped = {}, 0
    with Progress(len(paths), "image", "reading headers") as progress:
        for path in paths:
            try:
                size = image_size(path)
                if min(size) < min_size:
                    raise InputError(
                        f"{path}: {_by(size)} pixels, smaller than a patch of {min_size}"
                    )
                sizes[path] = size
            except InputError as error:
                progress.write(f"left out: {error}")
                skipped += 1
            progress.update()
    if not sizes:
        raise InputError(f"none of {len(paths)} images can be used: see the lines above")
    if skipped:
        print(f"left out {skipped} of {len(paths)} images", file=sys.stderr)
    return sizes


def _files(paths: list[Path], folders: list[Path]) -> dict[str, int]:
    """The bytes of files by their names below their folders, which are numbered if several."""
    names = {folder: f"{n}/" if len(folders) > 1 else "" for n, folder in enumerate(folders)}

    def name(path: Path) -> str:
        folder = next(parent for parent in path.parents if parent in names)
        return names[folder] + path.relative_to(folder).as_posix()

    return {name(path): path.stat().st_size for path in paths}


def _several(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [Path(path) for path in dict.fromkeys(several)]


def _by(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width}x{height}"
