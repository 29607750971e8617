"""Scans the packets of a video before any work: is it complete, and do its frames change?"""

from contextlib import suppress
from typing import NamedTuple

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from esrgan_jax.video.frames import read_look, side_data
from esrgan_jax.video.streams import AnyPacket, clock, fraction, shift_of

MOST_MISSING = 1.0  # seconds that may be missing of the declared duration
MOST_KEY_FRAMES = 2000  # that are decoded, evenly over the video


class Scan(NamedTuple):
    """What a scan of a video found.

    Attributes:
        frames: Number of frames, counted by packets.
        missing: Seconds that a Matroska file is shorter than it declares.
        side_data: FFmpeg's names of the side data of all key frames.
    """

    frames: int
    missing: float
    side_data: frozenset[str]


def scan(source: InputContainer, video_stream: VideoStream) -> Scan:
    """Reads all packets and decodes key frames.

    Raises:
        ValueError: The video is damaged or shorter than it declares, or its size, aspect, rotation
            or colours change.
    """
    frames, end = 0, 0.0
    found: set[str] = set()
    # Other containers declare no exact duration, and broadcasts always contain errors.
    strict = not {"mov", "matroska"}.isdisjoint(source.format.name.split(","))
    spacing = (source.duration or 0) / av.time_base / MOST_KEY_FRAMES
    start = shift_of(source) / av.time_base
    changes = _Changes(video_stream, start)
    last_decoded: float | None = None
    for packet in source.demux():
        ours = packet.stream.index == video_stream.index
        if packet.size == 0 or packet.stream.type in ("attachment", "data"):
            continue
        frames += ours and not packet.is_discard
        time = packet.dts if packet.pts is None else packet.pts
        now = end if time is None else float(time * packet.time_base)
        if strict and packet.is_corrupt:
            raise ValueError(f"it is damaged at {clock(now)}")
        end = max(end, now + float((packet.duration or 0) * packet.time_base))
        due = last_decoded is None or now >= last_decoded + spacing
        if ours and packet.is_keyframe and due:
            last_decoded = now
            found |= changes.check(packet, now)
    last = (source.duration or 0) / av.time_base
    if strict and end + MOST_MISSING < last:
        raise ValueError(
            f"it is cut off: of {clock(last)} it contains {clock(end)}; to upscale this part, "
            "copy it first: ffmpeg -i VIDEO -c copy NEW"
        )
    # An edit list of MP4 may end before the packets do, so only Matroska's duration is exact.
    exact = "matroska" in source.format.name
    return Scan(frames, max(last - end, 0.0) if exact else 0.0, frozenset(found))


class _Changes:
    """Compares key frames with the first one."""

    def __init__(self, video_stream: VideoStream, start: float):
        self.video_stream, self.start = video_stream, start
        self.first: dict[str, object] | None = None
        context = video_stream.codec_context
        context.skip_frame = "NONKEY"
        context.thread_type = ThreadType.SLICE  # else frames are delayed

    def check(self, packet: AnyPacket, now: float) -> set[str]:
        """Decodes and compares a key frame; returns the names of its side data.

        Args:
            packet: The packet of the key frame.
            now: Its time in seconds.

        Raises:
            ValueError: The frame differs from the first one.
        """
        found: set[str] = set()
        context = self.video_stream.codec_context
        with suppress(FFmpegError):  # reported when the video is read
            for frame in [*context.decode(packet), *context.decode(None)]:
                found |= side_data(frame).keys()
                self._compare(frame, clock(now - self.start))
        context.flush_buffers()
        return found

    def _compare(self, frame: VideoFrame, time: str) -> None:
        """Raises ValueError if a frame differs from the first one."""
        try:
            found = self._properties(frame)
        except ValueError as error:
            if self.first is None:
                return  # `open_video` reports this for the first frame
            raise ValueError(f"from {time} on {error}") from error
        self.first = self.first or found
        for what, value in found.items():
            if value != self.first[what]:
                raise ValueError(
                    f"its {what} changes from {self.first[what]} to {value} at {time}; cut it there"
                    f": ffmpeg -i VIDEO -c copy -t {time} A.mkv and ffmpeg -ss {time} -i VIDEO "
                    "-c copy B.mkv"
                )

    def _properties(self, frame: VideoFrame) -> dict[str, object]:
        """Returns what must not change, by its name in messages."""
        look = read_look(frame, self.video_stream)
        aspect = fraction(self.video_stream.codec_context.sample_aspect_ratio or 1)
        turn = (look.transpose, look.flip_rows, look.flip_columns)
        return {
            "size": f"{frame.width}×{frame.height}",
            "sample aspect": aspect,
            "rotation": turn,
            "transfer": f"H.273 transfer {look.transfer}",
            "gamut": f"H.273 primaries {look.primaries}",
        }
