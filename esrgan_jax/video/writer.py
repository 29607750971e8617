"""Writes videos with PyAV, with only a few frames in memory."""

import os
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from esrgan_jax.errors import RunError
from esrgan_jax.video import parts as video_parts
from esrgan_jax.video.encoder import Coding, add_stream, choose_coding, usual_priority
from esrgan_jax.video.frames import array_to_frame
from esrgan_jax.video.join import ffmpeg_writing, join
from esrgan_jax.video.parts import Encoded, VideoParts
from esrgan_jax.video.reading import FrameReader
from esrgan_jax.video.streams import find_video, open_container
from esrgan_jax.video.target import EncodingOptions, check_video_target
from esrgan_jax.video.video_file import Video

SLOW = 1.0  # seconds per frame; if frames take longer, each is stored when it is done


def write_video(
    video: Video,
    target: str | os.PathLike[str],
    upscale: Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]],
    *,
    height: int,
    width: int,
    quality: int | None = None,
    depth: int | None = None,
    lossless: bool = False,
    software: str | None = None,
    resumed: Callable[[int], None] = lambda frames: None,
) -> list[str]:
    """Writes a video with upscaled frames and copies everything else.

    Frames keep their times: exactly in MP4, to the millisecond in Matroska and WebM. Other streams,
    chapters and tags are copied. If a call is stopped, the finished part is kept in a folder next
    to the target, and the same call continues from there.

    Args:
        video: Its aspect is that of the result's pixels.
        target: Ends in `.mp4`, `.mkv` or `.webm`. It is written completely or not at all.
        upscale: Converts frames (H, W, 3) of the video's dtype to as many frames (height, width, 3)
            of the result's dtype, in the same order. It may read ahead, and in another thread. Its
            exceptions are passed on.
        height, width: Size of the results, in pixels.
        quality: CRF of the encoder, 0 is the best; None for one without visible loss.
        depth: Bits per channel: 8 or 10, or 16 if lossless; None for those of the video.
        lossless: Store the results exactly, in `.mkv`.
        software: A line for the video's comment that identifies source and settings. Only a call
            with the same line continues.
        resumed: Called with the number of frames that an earlier call has finished, if any.

    Returns:
        Notes on damaged or resized frames.

    Raises:
        InputError: As `check_video_target`, or another process is writing the same video.
        RunError: The video cannot be written.
    """
    target = Path(target)
    options: EncodingOptions = {"quality": quality, "depth": depth, "lossless": lossless}
    check_video_target(video, target, height=height, width=width, **options)
    coding = choose_coding(target.suffix.lower(), video.look, height, width, **options)
    source_id = software or f"{video.path.absolute()} {video.path.stat()}"
    made_by = f"{source_id}\n{coding}\n{height}x{width}, {video.look}\n{av.library_versions}\n"
    with (
        VideoParts(target, made_by) as parts,
        open_container(video.path) as source,
        FrameReader(source, find_video(source), video.look) as reading,
    ):
        if parts.count():
            resumed(parts.count())
        frames = reading.frames(skip=parts.frames)
        stored = _stored(parts, frames, (height, width), coding.dtype)
        results = chain(stored, upscale(frames))
        encoder = _Encoder(video, target, coding, parts, reading, (height, width, 3))
        while encoder.segment(results):
            pass
        encoder.check_end()
        join(video, target, coding, parts, height=height, width=width, software=software)
        parts.clear()
    return reading.notes()


def _stored(
    parts: VideoParts, frames: Iterator[np.ndarray], size: tuple[int, int], dtype: np.dtype
) -> Iterator[np.ndarray]:
    """Yields the single results of an earlier call, and skips their source frames."""
    for result in parts.results(*size, dtype):
        if next(frames, None) is None:  # decoded, so that it is in `FrameReader.pending`
            return
        yield result


class _Encoder:
    """Encodes results to segments."""

    def __init__(
        self,
        video: Video,
        target: Path,
        coding: Coding,
        parts: VideoParts,
        reading: FrameReader,
        shape: tuple[int, int, int],
    ):
        self.video, self.target, self.coding, self.parts = video, target, coding, parts
        self.reading, self.shape = reading, shape
        self.scalers = VideoReformatter(), VideoReformatter()
        self.stored = parts.count()  # by earlier calls
        self.start, self.computed = time.monotonic(), 0

    def segment(self, results: Iterator[np.ndarray]) -> bool:
        """Encodes the next segment; returns False if there are no more results."""
        first = next(results, None)
        if first is None:
            return False
        count, start = 0, self.parts.frames
        durations: dict[int, int] = {}
        with (
            self.parts.segment() as write,
            ffmpeg_writing(self.target),
            av.open(os.devnull, "w", format="matroska") as nowhere,
        ):
            height, width, _ = self.shape
            stream = add_stream(
                nowhere, self.coding, self.video.look, self.reading.video_stream, height, width
            )
            with usual_priority():
                stream.codec_context.open()
            for result in chain([first], islice(results, video_parts.FRAMES - 1)):
                frame = self._frame(result, start + count)
                durations[frame.pts or 0] = frame.duration
                _store(stream.encode(frame), durations, write)
                count += 1
            if count < video_parts.FRAMES:
                self.check_end()
            _store(stream.encode(None), durations, write)
        if self.parts.frames != start + count:
            raise RunError(f"{self.target}: could not be written: {self.coding} dropped a frame")
        return True

    def check_end(self) -> None:
        """Raises ValueError if frames have no results."""
        if self.reading.pending or not self.reading.ended:
            raise ValueError("upscale gave fewer frames than the video has")

    def _frame(self, result: np.ndarray, index: int) -> av.VideoFrame:
        """Converts a result to a frame to encode, and stores it if the work is slow."""
        if result.shape != self.shape or result.dtype != self.coding.dtype:
            raise ValueError(
                f"upscale gave {result.dtype} {result.shape}, not {self.coding.dtype} {self.shape}"
            )
        if not self.reading.pending:
            raise ValueError("upscale gave more frames than it took")
        if index >= self.stored:
            self.computed += 1
            if time.monotonic() - self.start > SLOW * self.computed:
                self.parts.keep(index, result)
        source = self.reading.pending.popleft()
        return array_to_frame(result, source, self.video.look, self.coding, self.scalers)


def _store(
    packets: list["av.Packet[VideoStream]"],
    durations: dict[int, int],
    write: Callable[[Encoded], None],
) -> None:
    """Writes packets with the durations of their frames, which are removed from `durations`."""
    for packet in packets:
        time = packet.pts or 0
        duration = durations.pop(time, packet.duration or 0)
        write(Encoded(time, duration, packet.is_keyframe, bytes(packet)))
