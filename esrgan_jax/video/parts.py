"""Stores the finished part of a video in a hidden folder, so that a stopped run can continue.

The frames are encoded in segments of `FRAMES`. Each starts with a key frame and is a file:
`000000300.100.packets` contains 100 frames from frame 300 on. The result is made of their packets.
If the work is slow, single frames are stored too, until their segment is complete.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import no_space, write_error
from esrgan_jax.folder_lock import locked

FRAMES = 100  # frames of a segment
LONGEST_FILE_NAME = 255  # bytes, on most file systems
PACKET_HEADER = struct.Struct("<qqQ?")


class Encoded(NamedTuple):
    """An encoded packet of frames; times are in units of the source's time base."""

    time: int
    duration: int
    is_keyframe: bool
    data: bytes


def parts_folder(target: Path) -> Path:
    """Returns the folder of the parts of a video."""
    name = f".{target.name}.parts"
    if len(os.fsencode(name)) > LONGEST_FILE_NAME:
        digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()
        name = f".{digest[:32]}.parts"
    return target.with_name(name)


def remove_parts(target: Path) -> None:
    """Removes the parts of a video, unless another process is writing it."""
    if parts_folder(target).is_dir():
        with suppress(InputError), _locked(target):
            _clear(parts_folder(target))


@contextmanager
def _locked(target: Path) -> Generator[None]:
    """Creates and locks the folder of the parts; in the end an empty folder is removed."""
    folder = parts_folder(target)
    try:
        with locked(folder, f"{target}: another process is writing it", "--output"):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _clear(folder: Path) -> None:
    """Removes all parts; other files of the folder are kept."""
    for kind in ("*.packets", "*.npy", "*.part", "made_by.txt"):
        for path in folder.glob(kind):
            path.unlink(missing_ok=True)


class VideoParts:
    """The parts of a video, as a context manager that locks their folder.

    An empty folder is removed at the end.

    Args:
        target: The video to write.
        made_by: The source and all settings. Parts with other settings are removed.

    Attributes:
        frames: Number of frames in complete segments.

    Raises:
        InputError: Another process is writing the video.
        RunError: The folder cannot be made or read.
    """

    def __init__(self, target: Path, made_by: str):
        self.target, self.folder, self.made_by = target, parts_folder(target), made_by
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
        """Removes all parts, once the video is written."""
        with self._working():
            _clear(self.folder)

    def results(self, height: int, width: int, dtype: np.dtype) -> Iterator[np.ndarray]:
        """Yields the single frames after the complete segments, in order, each read when needed."""
        index = self.frames
        while (path := self._frame(index)).is_file():
            try:
                array = np.load(path, allow_pickle=False)
            except (ValueError, OSError, EOFError):  # after a full disk or a power failure
                return
            if array.shape != (height, width, 3) or array.dtype != dtype:
                return
            yield array
            index += 1

    def count(self) -> int:
        """Returns the number of finished frames, including the single ones."""
        index = self.frames
        while self._frame(index).is_file():
            index += 1
        return index

    def keep(self, index: int, result: np.ndarray) -> None:
        """Stores a frame until its segment is complete."""
        with self._working():
            partial = self.folder / "frame.part"
            with partial.open("wb") as file:
                np.save(file, result)
            partial.rename(self._frame(index))

    @contextmanager
    def segment(self) -> Generator[Callable[[Encoded], None]]:
        """Gives a function that adds a packet to the next segment; it is written whole or not."""
        partial = self.folder / "segment.part"
        count = 0
        with self._working():
            file = partial.open("wb")

        def write(packet: Encoded) -> None:
            nonlocal count
            with self._working():
                size = len(packet.data)
                header = (packet.time, packet.duration, size, packet.is_keyframe)
                file.write(PACKET_HEADER.pack(*header))
                file.write(packet.data)
            count += 1

        try:
            yield write
            with self._working():
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):  # the disk is full
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
        """Yields the packets of all segments, in the order of the encoder."""
        for path, _ in self._segments():
            with self._working(), path.open("rb") as file:
                while head := file.read(PACKET_HEADER.size):
                    time, duration, size, is_keyframe = PACKET_HEADER.unpack(head)
                    yield Encoded(time, duration, is_keyframe, file.read(size))

    def times(self) -> Iterator[list[int]]:
        """Yields the times of each segment's packets, in the order of the encoder."""
        for path, _ in self._segments():
            with self._working():
                yield _times(path)

    def _segments(self) -> Iterator[tuple[Path, int]]:
        """Yields (file, frames) of the complete segments, from the first on."""
        done = 0
        found = {path.name.partition(".")[0]: path for path in self.folder.glob("*.packets")}
        while path := found.get(f"{done:09}"):
            count = int(path.suffixes[0][1:])
            if len(_times(path)) != count:  # after a full disk or a power failure
                return
            yield path, count
            done += count

    def _frame(self, index: int) -> Path:
        return self.folder / f"{index:09}.npy"

    @contextmanager
    def _working(self) -> Generator[None]:
        """Converts an OSError to a RunError; for a full disk it adds that finished work is kept."""
        try:
            yield
        except OSError as error:
            failure = write_error(self.target, error)
            if no_space(self.target, error):
                failure = RunError(f"{failure}. The finished part is kept")
            raise failure from error


def _times(path: Path) -> list[int]:
    """Returns the times of a segment's packets up to the first incomplete one."""
    times, end = [], path.stat().st_size
    with path.open("rb") as file:
        while len(head := file.read(PACKET_HEADER.size)) == PACKET_HEADER.size:
            time, _, size, _ = PACKET_HEADER.unpack(head)
            if file.seek(size, os.SEEK_CUR) > end:
                break
            times.append(time)
    return times
