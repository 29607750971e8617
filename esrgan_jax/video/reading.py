"""Reads the frames of a video in display order and queues them for their results."""

from collections import deque
from collections.abc import Iterator
from threading import Lock
from typing import Self

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from esrgan_jax.video.frames import Look, frame_to_array
from esrgan_jax.video.streams import clock, demuxed, shift_of


class FrameReader:
    """Decodes frames to arrays, and keeps each decoded frame until its result is written.

    A context manager: after it, no thread reads any more and the file can be closed.

    Attributes:
        pending: Decoded frames without a result yet, oldest first.
        ended: Whether the last frame was read.
    """

    def __init__(self, source: InputContainer, video_stream: VideoStream, look: Look):
        self.source, self.video_stream, self.look = source, video_stream, look
        self.pending: deque[VideoFrame] = deque()
        self.ended = False
        self.concealed = 0  # damaged frames that the decoder repaired
        self.lost: list[float] = []  # times of packets that could not be decoded
        self.resized: list[float] = []  # times of frames of another size
        self.lock, self.closed = Lock(), False
        self.shift = shift_of(source)
        video_stream.thread_type = "AUTO"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.closed = True

    def frames(self, skip: int = 0) -> Iterator[np.ndarray]:
        """Yields upright arrays, as from `frames.frame_to_array`. It may be used in any thread.

        Args:
            skip: Number of frames at the start that are decoded but not yielded.
        """
        arrays = self._arrays(skip)
        while True:
            with self.lock:
                array = None if self.closed else next(arrays, None)
            if array is None:
                return
            yield array

    def notes(self) -> list[str]:
        """Returns notes on damaged and resized frames."""
        notes: list[str] = []
        if self.concealed:
            notes.append(f"{_count(self.concealed, 'damaged frame')}, repaired by the decoder")
        if self.lost:
            notes.append(
                f"{_count(len(self.lost), 'damaged packet')}, the first at {clock(self.lost[0])}; "
                "the frame before each is shown longer"
            )
        if self.resized:
            notes.append(
                f"{_count(len(self.resized), 'frame')} of another size, the first at "
                f"{clock(self.resized[0])}, resized to the size of the first frame"
            )
        return notes

    def _arrays(self, skip: int) -> Iterator[np.ndarray]:
        """Yields arrays, and sets the times of their frames so that they increase."""
        scaler = VideoReformatter()
        size: tuple[int, int] | None = None
        last: int | None = None
        for index, frame in enumerate(self._decoded()):
            time = frame.dts if frame.pts is None else frame.pts
            if last is not None:  # containers refuse two frames with one time
                time = last + self._step(frame) if time is None else max(time, last + 1)
            last = frame.pts = time or 0
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                self.resized.append(float(last * (frame.time_base or 0)))
            self.concealed += frame.is_corrupt
            if index >= skip:
                array = frame_to_array(frame, self.look, scaler, size)
                self.pending.append(frame)
                yield array
        self.ended = True

    def _step(self, frame: VideoFrame) -> int:
        """Returns the time from a frame to the next, for a video without times."""
        rate = self.video_stream.average_rate or self.video_stream.guessed_rate
        step = 1 / (rate * frame.time_base) if rate and frame.time_base else 0
        return max(frame.duration or round(step), 1)

    def _decoded(self) -> Iterator[VideoFrame]:
        """Yields decoded frames; packets that cannot be decoded are skipped."""
        started, now = False, 0.0
        for packet in demuxed(self.source, self.video_stream):
            shift = round(self.shift / av.time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            try:
                for frame in self.video_stream.decode(packet):
                    started, now = True, float((frame.pts or 0) * (frame.time_base or 0))
                    yield frame
            except FFmpegError:
                if started:  # a recording may start with the rest of a cut-off frame
                    self.lost.append(now)


def _count(number: int, noun: str) -> str:
    """Formats a number of things: "1 frame", "2 frames"."""
    return f"{number} {noun}{'s' * (number != 1)}"
