"""The finished part of a video, in a hidden folder beside it, so that a stop loses nothing.

The frames are encoded in segments of `FRAMES`, each of which begins with a key frame and is a file
of its own, `000000300.100.packets` with 100 frames from the 300th on. The result is made of their
packets. So that slow work loses no segment, its frames are kept, too, until it is whole.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import no_space, write_error
from esrgan_jax.folder_lock import locked

FRAMES = 100  # of a segment
LONGEST_NAME = 255  # bytes, of most file systems
HEAD = struct.Struct("<qqQ?")


class Encoded(NamedTuple):
    """A packet of a video's images; times are in units of the source's clock."""

    time: int
    duration: int
    is_keyframe: bool
    data: bytes


def folder_of(target: Path) -> Path:
    """Where the parts of a video are."""
    name = f".{target.name}.parts"
    if len(os.fsencode(name)) > LONGEST_NAME:
        digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()
        name = f".{digest[:32]}.parts"
    return target.with_name(name)


def remove(target: Path) -> None:
    """Removes the parts of a video, unless another process is at work on it."""
    if folder_of(target).is_dir():
        with suppress(InputError), _locked(target):
            _clear(folder_of(target))


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """The folder of the parts for this process alone; at the end it is removed if it is empty."""
    folder = folder_of(target)
    try:
        with locked(folder, f"{target}: another process is at work on it", "--output"):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _clear(folder: Path) -> None:
    """Removes all parts; what else is in the folder stays."""
    for kind in ("*.packets", "*.npy", "*.part", "made_by.txt"):
        for path in folder.glob(kind):
            path.unlink(missing_ok=True)


class Parts:
    """A context, in which no other process works on the video.

    When it ends, the folder is removed if there is nothing in it.

    Args:
        target: The video to be.
        made_by: How it is made, and of what. Parts that were made otherwise are removed.

    Attributes:
        frames: How many there are in whole segments.

    Raises:
        InputError: Another process is at work on the video.
        RunError: The folder cannot be made or read.
    """

    def __init__(self, target: Path, made_by: str):
        self.target, self.folder, self.made_by = target, folder_of(target), made_by
        self.frames = 0
        self.lock = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack, self._working():
            stack.enter_context(_locked(self.target))
            record = self.folder / "made_by.txt"
            if not record.is_file() or record.read_text(errors="replace") != self.made_by:
                _clear(self.folder)
                record.write_text(self.made_by)
            self.frames = sum(count for _, count in self._segments())
            self.lock = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            if not self.frames and not any(self.folder.glob("*.npy")):
                _clear(self.folder)

    def clear(self) -> None:
        """Removes all parts: the video is done."""
        with self._working():
            _clear(self.folder)

    def results(self, height: int, width: int, dtype: np.dtype) -> Iterator[np.ndarray]:
        """The frames behind the segments that are there, in order, read when they are taken."""
        index = self.frames
        while (path := self._frame(index)).is_file():
            try:
                array = np.load(path, allow_pickle=False)
            except (ValueError, OSError, EOFError):  # the disk was full, or the power failed
                return
            if array.shape != (height, width, 3) or array.dtype != dtype:
                return
            yield array
            index += 1

    def count(self) -> int:
        """How many frames are done, with those behind the segments."""
        index = self.frames
        while self._frame(index).is_file():
            index += 1
        return index

    def keep(self, index: int, result: np.ndarray) -> None:
        """Keeps a frame until its segment is whole."""
        with self._working():
            partial = self.folder / "frame.part"
            with partial.open("wb") as file:
                np.save(file, result)
            partial.rename(self._frame(index))

    @contextmanager
    def segment(self) -> Iterator[Callable[[Encoded], None]]:
        """Takes the packets of the next segment; it is there at the end of the context, or not."""
        partial = self.folder / "segment.part"
        count = 0
        with self._working():
            file = partial.open("wb")

        def write(packet: Encoded) -> None:
            nonlocal count
            with self._working():
                size = len(packet.data)
                file.write(HEAD.pack(packet.time, packet.duration, size, packet.is_keyframe))
                file.write(packet.data)
            count += 1

        try:
            yield write
            with self._working():
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):  # of a full disk, again
                file.close()
            partial.unlink(missing_ok=True)
            raise
        file.close()
        with self._working():
            partial.rename(self.folder / f"{self.frames:09}.{count}.packets")
            for index in range(self.frames, self.frames + count):
                self._frame(index).unlink(missing_ok=True)
        self.frames += count

    def packets(self) -> Iterator[Encoded]:
        """The packets of all segments, as the encoder gave them."""
        for path, _ in self._segments():
            with self._working(), path.open("rb") as file:
                while head := file.read(HEAD.size):
                    time, duration, size, is_keyframe = HEAD.unpack(head)
                    yield Encoded(time, duration, is_keyframe, file.read(size))

    def times(self) -> Iterator[list[int]]:
        """Of each segment the times of its packets, as the encoder gave them."""
        for path, _ in self._segments():
            with self._working():
                yield _times(path)

    def _segments(self) -> Iterator[tuple[Path, int]]:
        """(file, frames) of the whole segments from the first on."""
        done = 0
        found = {path.name.partition(".")[0]: path for path in self.folder.glob("*.packets")}
        while path := found.get(f"{done:09}"):
            count = int(path.suffixes[0][1:])
            if len(_times(path)) != count:  # a disk that was full, or a power failure
                return
            yield path, count
            done += count

    def _frame(self, index: int) -> Path:
        return self.folder / f"{index:09}.npy"

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Says of an error of the disk that what is done stays."""
        try:
            yield
        except OSError as error:
            failure = write_error(self.target, error)
            if no_space(self.target, error):
                failure = RunError(f"{failure}. What is done of it stays")
            raise failure from error


def _times(path: Path) -> list[int]:
    """The times of a segment's packets up to the first that is not whole."""
    times, end = [], path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(HEAD.size)) == HEAD.size:
            time, _, size, _ = HEAD.unpack(head)
            if file.seek(size, os.SEEK_CUR) > end:
                break
            times.append(time)
    return times
