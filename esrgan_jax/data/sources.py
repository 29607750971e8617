"""Sources of training images with random access, as Grain needs them."""

import os
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from esrgan_jax.data.decoded import DecodedImages, Element
from esrgan_jax.data.pairs import find_pairs
from esrgan_jax.errors import InputError, listed, missing
from esrgan_jax.images.image_file import find_images, image_size
from esrgan_jax.progress import Progress

MEMORY = 2 << 30  # bytes per process: every Grain worker has its own copy of the images
RECORDS = 64  # at least as many records are compared to detect a changed prepared folder
StrPath = str | os.PathLike[str]
TFDS = ("prepared folders", "TensorFlow Datasets", "tensorflow-datasets")  # for `missing`


class Images(Protocol):
    """Random access to {"hr": (H, W, 3)} or {"lr": (h, w, 3), "hr": (H, W, 3)}, uint8.

    An image is an array, or reads its pixels when it is indexed (see `UnreadImage`).
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class Source(Images, Protocol):
    """The training images of a run.

    Attributes:
        decodes: Whether images are decoded again and again, since they do not fit in memory.
        decoded_bytes: The size of all images together, decoded.
    """

    decodes: bool
    decoded_bytes: int

    def files(self) -> dict[str, int]:
        """Returns the size of each file in bytes, by its name below the folder."""
        ...


def open_source(
    paths: StrPath | Sequence[StrPath],
    lr_paths: StrPath | Sequence[StrPath] | None = None,
    *,
    scale: int,
    min_size: int,
    memory: int = MEMORY,
    shown: bool = True,
) -> Source:
    """Opens folders of images, pairs of folders, or data that `esrgan-jax prepare` made.

    Args:
        paths: One or several folders of HR images, or one prepared folder.
        lr_paths: The folders of their LR images in the same order; None computes LR from HR.
        scale: HR size divided by LR size.
        min_size: The smallest side of an HR image in pixels, such as the patch size.
        memory: Bytes of decoded images that each process keeps.
        shown: Whether progress is shown on stderr. Images that are left out always are.

    Raises:
        InputError: A folder is missing, or has no image that can be used.
    """
    folders = _several(paths)
    if not folders:
        raise InputError("no training images: name a folder of them")
    prepared = [folder for folder in folders if (folder / "dataset_info.json").is_file()]
    if lr_paths is not None:
        lr_folders = _several(lr_paths)
        if prepared:
            raise InputError(f"{prepared[0]}: has only HR; pairs need two folders of images")
        return PairedFolder(lr_folders, folders, scale, min_size, memory, shown)
    if not prepared:
        return ImageFolder(folders, min_size, memory, shown)
    if len(folders) > 1:
        raise InputError(
            f"{prepared[0]}: is a prepared folder and cannot be combined; give all folders of "
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

    Images that are too small or whose header cannot be read are reported on stderr and left out.
    Decoded images are kept in memory up to `memory` bytes, since a small set is read thousands of
    times. An image with damaged pixels is reported once by each worker process, and the next one is
    used instead, so that it does not end a long run. See `DecodedImages`.

    Raises:
        InputError: A folder is missing or empty, or no image is left.
    """

    def __init__(
        self,
        folders: StrPath | Sequence[StrPath],
        min_size: int,
        memory: int = MEMORY,
        shown: bool = True,
    ) -> None:
        self._folders = list(dict.fromkeys(_several(folders)))
        paths = [path for folder in self._folders for path in find_images(folder)]
        sizes = _sizes(paths, min_size, shown)
        self._images = DecodedImages([{"hr": path} for path in paths if path in sizes], memory)
        self.decoded_bytes = _decoded_bytes(sizes.values())
        self.decodes = self.decoded_bytes > memory

    def __len__(self) -> int:
        return len(self._images.items)

    def __getitem__(self, index: int) -> Element:
        return self._images.read(index)

    def files(self) -> dict[str, int]:
        """See `Source`."""
        return _files([item["hr"] for item in self._images.items], self._folders)


class PairedFolder:
    """Pairs of LR and HR images: real-world data, or LR made by another program.

    Pairs are found by `pairs.find_pairs`. Images that cannot be used are handled as in
    `ImageFolder`.

    Raises:
        InputError: An image has no partner, or an LR image is not (H // scale, W // scale) pixels.
    """

    def __init__(
        self,
        lr_folder: StrPath | Sequence[StrPath],
        hr_folder: StrPath | Sequence[StrPath],
        scale: int,
        min_size: int,
        memory: int = MEMORY,
        shown: bool = True,
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
        hr_sizes = _sizes([hr for hr, _ in pairs], min_size, shown)
        lr_sizes = _sizes([lr for hr, lr in pairs if hr in hr_sizes], 1, shown)
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
        self._images = DecodedImages([{"lr": lr, "hr": hr} for hr, lr in pairs], memory)
        every = [hr_sizes[hr] for hr, _ in pairs] + [lr_sizes[lr] for _, lr in pairs]
        self.decoded_bytes = _decoded_bytes(every)
        self.decodes = self.decoded_bytes > memory

    def __len__(self) -> int:
        return len(self._images.items)

    def __getitem__(self, index: int) -> Element:
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

    decodes = False

    def __init__(self, folder: StrPath) -> None:
        # Slow to import, and needed by those alone who prepared their data.
        try:
            import tensorflow_datasets as tfds
        except ImportError as error:
            raise missing(*TFDS) from error
        self._folder = Path(folder)
        try:
            builder = tfds.builder_from_directory(folder)
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            self._records = builder.as_data_source(
                "train",  # pyright: ignore[reportCallIssue]
                deserialize_method=raw,
            )
            for index in (0, len(self._records) - 1):  # the first and the last file exist
                self[index]
        except Exception as error:  # TFDS and ArrayRecord raise many kinds
            raise InputError(
                f"{folder}: cannot be read as prepared data ({type(error).__name__}: {error}); "
                "make it again with `esrgan-jax prepare`"
            ) from error
        self.decoded_bytes = len(self) * self[0]["hr"].nbytes  # all are of one size

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        from tensorflow_datasets.proto import tf_example_pb2

        # TFDS' own parser takes six times as long, since it copies the pixels once more.
        proto: Any = tf_example_pb2  # its classes are made at run time
        features = proto.Example.FromString(self._records[index]).features.feature
        pixels = np.frombuffer(features["hr/value"].bytes_list.value[0], np.uint8)
        return {"hr": pixels.reshape(features["hr/shape"].int64_list.value)}

    def files(self) -> dict[str, int]:
        """See `Source`; adds checksums of some records, since files are padded to blocks."""
        files = _files(sorted(self._folder.glob("*.array_record*")), [self._folder])
        sampled = range(0, len(self), max(len(self) // RECORDS, 1))
        return files | {f"record {i}": zlib.crc32(self[i]["hr"].tobytes()) for i in sampled}


def _sizes(paths: list[Path], min_size: int, shown: bool) -> dict[Path, tuple[int, int]]:
    """Returns (height, width) of the usable images, and reports the others on stderr."""
    sizes, skipped = {}, 0
    with Progress(len(paths), "image", "reading headers", shown=shown) as progress:
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


def _decoded_bytes(sizes: Iterable[tuple[int, int]]) -> int:
    return sum(3 * height * width for height, width in sizes)


def _files(paths: list[Path], folders: list[Path]) -> dict[str, int]:
    """Returns sizes in bytes by name below the folder; several folders are numbered."""
    names = {folder: f"{n}/" if len(folders) > 1 else "" for n, folder in enumerate(folders)}

    def name(path: Path) -> str:
        folder = next(parent for parent in path.parents if parent in names)
        return names[folder] + path.relative_to(folder).as_posix()

    return {name(path): path.stat().st_size for path in paths}


def _several(paths: StrPath | Iterable[StrPath]) -> list[Path]:
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [Path(path) for path in several]


def _by(size: tuple[int, int]) -> str:
    height, width = size
    return f"{width}x{height}"
