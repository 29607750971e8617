"""Writes videos through PyAV, with only a few frames in memory."""

import os
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from esrgan_jax.errors import RunError
from esrgan_jax.video import parts as video_parts
from esrgan_jax.video.encoder import Coding, add_stream, coding_of
from esrgan_jax.video.frames import to_frame
from esrgan_jax.video.join import join, writing
from esrgan_jax.video.parts import Encoded, Parts
from esrgan_jax.video.reading import Reading
from esrgan_jax.video.streams import find_video, open_source
from esrgan_jax.video.target import check_target
from esrgan_jax.video.video_file import Video

SLOW = 1.0  # seconds that a frame may take and not be kept before its segment is whole


def write_video(
    video: Video,
    target: str | os.PathLike,
    upscale: Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]],
    *,
    height: int,
    width: int,
    quality: int | None = None,
    depth: int | None = None,
    lossless: bool = False,
    software: str | None = None,
    begun: Callable[[int], None] = lambda frames: None,
) -> list[str]:
    """Writes a video with all its frames upscaled and everything else as it is.

    The frames keep their times: exactly in MP4, to the millisecond in Matroska and WebM, which
    know no less. Other streams are copied packet by packet, chapters and tags with them. What is
    done before a stop is kept beside the target, and the same call goes on from there.

    Args:
        video: Its aspect is the one of the result's pixels.
        target: Ends in `.mp4`, `.mkv` or `.webm`. It is there whole or not at all.
        upscale: Makes of frames (H, W, 3) of the video's dtype as many (height, width, 3), of the
            dtype of the result and in the same order. It may take several before it gives one, and
            take them in another thread. What it raises comes out as it is.
        height, width: Of the results, in pixels.
        quality: The encoder's CRF, 0 is the best; None for one whose loss is not seen.
        depth: Bits of a colour, 8 or 10, or 16 if lossless; None for the video's.
        lossless: Keeps the results as they are, in `.mkv`.
        software: What makes the video, of which content: a line of its comment, behind what is
            there. Only what was begun with the same line goes on.
        begun: Told how many frames an earlier call has done, if any.

    Returns:
        Sentences for the user on what was found underway, mostly none.

    Raises:
        InputError: As from `check_target`, or another process is at work on the same video.
        RunError: The video cannot be written.
    """
    target = Path(target)
    options = {"quality": quality, "depth": depth, "lossless": lossless}
    check_target(video, target, height=height, width=width, **options)
    coding = coding_of(target.suffix.lower(), video.look, height, width, **options)
    source_id = software or f"{video.path.absolute()} {video.path.stat()}"
    made_by = f"{source_id}\n{coding}\n{height}x{width}, {video.look}\n{av.library_versions}\n"
    with (
        Parts(target, made_by) as parts,
        open_source(video.path) as source,
        Reading(source, find_video(source), video.look) as reading,
    ):
        if parts.count():
            begun(parts.count())
        given = reading.frames(skip=parts.frames)
        kept = _kept(parts, given, (height, width), coding.dtype)
        results = chain(kept, upscale(given))
        encoding = _Encoding(video, target, coding, parts, reading, (height, width, 3))
        while encoding.segment(results):
            pass
        encoding.check_end()
        join(
            video,
            target,
            coding,
            parts,
            height=height,
            width=width,
            aspect=video.aspect,
            software=software,
        )
        parts.clear()
    return [f"{video.path}: {note}" for note in reading.notes()]


def _kept(
    parts: Parts, given: Iterator[np.ndarray], size: tuple[int, int], dtype: np.dtype
) -> Iterator[np.ndarray]:
    """What an earlier call has kept of a segment that it did not end."""
    for result in parts.results(*size, dtype):
        if next(given, None) is None:  # it is in `reading.pending`
            return
        yield result


class _Encoding:
    """Results that become segments."""

    def __init__(
        self,
        video: Video,
        target: Path,
        coding: Coding,
        parts: Parts,
        reading: Reading,
        shape: tuple[int, int, int],
    ):
        self.video, self.target, self.coding, self.parts = video, target, coding, parts
        self.reading, self.shape = reading, shape
        self.scalers = VideoReformatter(), VideoReformatter()
        self.kept = parts.count()  # by an earlier call
        self.start, self.computed = time.monotonic(), 0

    def segment(self, results: Iterator[np.ndarray]) -> bool:
        """Encodes the next segment; False where there are no results for one."""
        first = next(results, None)
        if first is None:
            return False
        count, begin = 0, self.parts.frames
        durations: dict[int, int] = {}
        with (
            self.parts.segment() as write,
            writing(self.target),
            av.open(os.devnull, "w", format="matroska") as nowhere,
        ):
            height, width, _ = self.shape
            stream = add_stream(
                nowhere, self.coding, self.video.look, self.reading.video_stream, height, width
            )
            for result in chain([first], islice(results, video_parts.FRAMES - 1)):
                frame = self._frame(result, begin + count)
                durations[frame.pts or 0] = frame.duration
                _store(stream.encode(frame), durations, write)
                count += 1
            if count < video_parts.FRAMES:
                self.check_end()
            _store(stream.encode(None), durations, write)
        if self.parts.frames != begin + count:
            raise RunError(f"{self.target}: could not be written: {self.coding} left out a frame")
        return True

    def check_end(self) -> None:
        """ValueError where there are frames without results."""
        if self.reading.pending or not self.reading.ended:
            raise ValueError("upscale gave fewer frames than the video has")

    def _frame(self, result: np.ndarray, index: int) -> av.VideoFrame:
        if result.shape != self.shape or result.dtype != self.coding.dtype:
            given = f"{result.dtype} {result.shape}"
            raise ValueError(f"{given} is no {self.coding.dtype} {self.shape}")
        if not self.reading.pending:
            raise ValueError("upscale gave more frames than it took")
        if index >= self.kept:
            self.computed += 1
            if time.monotonic() - self.start > SLOW * self.computed:
                self.parts.keep(index, result)
        source = self.reading.pending.popleft()
        return to_frame(result, source, self.video.look, self.coding, self.scalers)


def _store(
    packets: list[av.Packet], durations: dict[int, int], write: Callable[[Encoded], None]
) -> None:
    for packet in packets:
        time = packet.pts or 0
        duration = durations.pop(time, packet.duration or 0)
        write(Encoded(time, duration, packet.is_keyframe, bytes(packet)))
