"""Decodes the images of a source, and keeps them in memory as far as they fit."""

import contextlib
import itertools
import sys
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.errors import InputError, RunError, printable
from esrgan_jax.images.image_file import read_crop, read_image


class UnreadImage:
    """An image file whose pixels are read when it is indexed: image[top:bottom, left:right].

    `np.asarray` reads all of them.

    Attributes:
        shape: (H, W, 3).
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (
            part.indices(side) for part, side in zip(window, self.shape[:2], strict=True)
        )
        with self._read_again():
            return read_crop(self.path, top, left, bottom - top, right - left)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        with self._read_again():
            return read_image(self.path).astype(dtype or np.uint8, copy=False)

    @contextlib.contextmanager
    def _read_again(self) -> Generator[None]:
        try:
            yield
        except InputError as error:
            raise RunError(f"{error}; it could be read before, so check its disk") from error


Element = Mapping[str, np.ndarray | UnreadImage]


class DecodedImages:
    """Images by number, kept in memory up to `memory` bytes.

    Every image is decoded as a whole the first time, which finds damage. Of an image that does not
    fit in memory only a part is decoded after that (see `UnreadImage`), and a failure of that is a
    RunError. An image that is damaged the first time is reported, and the next one is used instead.

    Args:
        items: The files of each element, by name.
        memory: Bytes.
    """

    def __init__(self, items: list[dict[str, Path]], memory: int) -> None:
        self.items = items
        self._memory = memory
        self._forget()

    def read(self, index: int) -> Element:
        """Returns an element.

        Raises:
            IndexError: There is no such element.
            RunError: None of the images can be read.
        """
        places = range(len(self.items))
        first = places[index]  # raises IndexError, which ends a loop over the source
        for place in itertools.chain(places[first:], places[:first]):
            if place in self._bad:
                continue
            try:
                return self._seen.get(place) or self._decode(place)
            except InputError as error:
                with self._lock:
                    if place not in self._bad:
                        warning = f"warning: {error}; using the next one"
                        print(printable(warning), file=sys.stderr)
                    self._bad.add(place)
        raise RunError("none of the training images can be read")

    def _decode(self, place: int) -> Element:
        paths = self.items[place]
        images = {name: read_image(path) for name, path in paths.items()}
        size = sum(image.nbytes for image in images.values())
        with self._lock:
            if place not in self._seen:
                fits = self._used + size <= self._memory
                self._used += size if fits else 0
                self._seen[place] = {
                    name: image if fits else UnreadImage(paths[name], image.shape)
                    for name, image in images.items()
                }
        return images

    def _forget(self) -> None:
        self._seen: dict[int, Element] = {}
        self._bad: set[int] = set()
        self._used = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> Any:
        return self.items, self._memory

    def __setstate__(self, state: Any) -> None:
        self.items, self._memory = state
        self._forget()
