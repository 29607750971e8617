"""Cuts images into sub-images and writes them as ArrayRecord through TFDS.

A training step needs a small patch, and decoding a photograph of two megapixels for it would take
most of the time. So images are cut once and stored uncompressed: a record is read in a third of a
millisecond, while a PNG takes ten milliseconds to decode.
"""

import contextlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.core.writer import ExampleWriter

from esrgan_jax.errors import InputError
from esrgan_jax.files import write_error

SHARD_BYTES = 128 << 20  # TFDS holds a shard in memory while it writes it
Examples = Iterator[tuple[str, np.ndarray]]


def window_starts(length: int, size: int, step: int, leftover: int) -> list[int]:
    """Returns where windows begin along one axis; [] if the image is smaller than a window.

    If more than `leftover` pixels remain, a last window ends at the edge. `leftover` is 48 in the
    ESRGAN authors' code of 2019 (32,208 sub-images of DIV2K), and 0 in today's BasicSR (32,592).
    """
    starts = list(range(0, length - size + 1, step))
    if starts and length - (starts[-1] + size) > leftover:
        starts.append(length - size)
    return starts


def cut(image: np.ndarray, size: int, step: int, leftover: int) -> Iterator[np.ndarray]:
    """Yields the (size, size, C) windows of a (H, W, C) image, row by row."""
    height, width = image.shape[:2]
    for top in window_starts(height, size, step, leftover):
        for left in window_starts(width, size, step, leftover):
            yield image[top : top + size, left : left + size]


def write_sub_images(folder: Path, shards: Sequence[Callable[[], Examples]]) -> None:
    """Writes a prepared folder for `ArrayRecordSource`.

    Args:
        folder: Must not exist. It is written as `<folder>.partial` and renamed when complete.
        shards: For each file, a function that yields (name, (size, size, 3) uint8).

    Raises:
        InputError: `folder` or `<folder>.partial` exists.
        RunError: It cannot be written.
    """
    partial = partial_folder(folder)
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    try:
        partial.mkdir(parents=True)
    except FileExistsError:  # another process has just created it
        raise InputError(_begun(partial)) from None
    except OSError as error:
        raise write_error(partial, error) from error
    try:
        builder = SubImages(shards, data_dir=partial)
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download
            builder.download_and_prepare()
        os.rename(builder.data_dir, folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_folder(folder: Path) -> Path:
    """Returns the temporary folder of a folder to prepare; InputError if either exists."""
    folder = folder.absolute()
    if folder.name in ("", ".."):
        raise InputError(f"{folder}: has no name; give --output a new folder")
    partial = folder.with_name(folder.name + ".partial")
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it or give another --output")
    if partial.exists():
        raise InputError(_begun(partial))
    return partial


def _begun(partial: Path) -> str:
    return f"{partial}: another run writes it, or one was killed; if none is running, remove it"


class UncompressedWriter(ExampleWriter):
    """Writes shards uncompressed: decompressing takes four times as long as reading."""

    def write(self, path: str | os.PathLike[str], examples: Iterable[tuple[object, bytes]]) -> None:
        writer = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
        for _, record in examples:
            writer.write(record)
        writer.close()


class SubImages(tfds.core.ShardBasedBuilder):
    """HR sub-images, uncompressed, named after the image and the number of the window.

    Not a `GeneratorBasedBuilder`, which shuffles on disk and needs TensorFlow for more than one
    gigabyte. Grain shuffles when it reads.
    """

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None  # nothing is downloaded; TFDS' default needs an undeclared dependency

    def __init__(self, shards: Sequence[Callable[[], Examples]], *, data_dir: Path) -> None:
        self._shards = shards
        super().__init__(data_dir=data_dir, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "hr": tfds.features.Tensor(shape=(None, None, 3), dtype=np.uint8, encoding="bytes"),
            "name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="HR sub-images for training super-resolution, 8 bit sRGB.",
            features=tfds.features.FeaturesDict(features),
        )

    def _example_writer(self) -> UncompressedWriter:
        return UncompressedWriter(tfds.core.FileFormat.ARRAY_RECORD)

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Any]:
        def keyed(
            shard: Callable[[], Examples],
        ) -> Callable[[], Iterator[tuple[str, dict[str, Any]]]]:
            return lambda: ((name, {"hr": hr, "name": name}) for name, hr in shard())

        return {"train": [keyed(shard) for shard in self._shards]}
