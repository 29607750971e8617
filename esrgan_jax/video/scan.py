"""Scans the packets of a video before any work: that it is complete, and where frames change."""

from contextlib import suppress
from fractions import Fraction
from typing import NamedTuple

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from esrgan_jax.video.frames import look_of, side_data
from esrgan_jax.video.streams import clock, shift_of

CUT_OFF = 1.0  # seconds that may be missing of what a video declares
LOOKS = 2000  # key frames that are decoded, at most, evenly over a video


class Scan(NamedTuple):
    """What a look through a video found.

    Attributes:
        frames: How many there are, by the packets.
        missing: Seconds that are missing at the end of what a Matroska file declares.
        side_data: FFmpeg's names of the side data of any key frame.
    """

    frames: int
    missing: float
    side_data: frozenset[str]


def scan(source: InputContainer, video_stream: VideoStream) -> Scan:
    """Reads all packets and decodes key frames.

    Raises:
        ValueError: The video is damaged or shorter than it declares, or its frames become such that
            cannot be enlarged together with the first.
    """
    frames, end, told = 0, 0.0, set()
    # Other containers declare no duration, and recordings from the air always have flaws.
    strict = not {"mov", "matroska"}.isdisjoint(source.format.name.split(","))
    spacing = (source.duration or 0) / av.time_base / LOOKS
    begin = shift_of(source) / av.time_base
    changes = _Changes(video_stream, begin)
    looked = None
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
        if ours and packet.is_keyframe and (looked is None or now >= looked + spacing):
            looked = now
            told |= changes.look(packet, now)
    last = (source.duration or 0) / av.time_base
    if strict and end + CUT_OFF < last:
        raise ValueError(
            f"it is cut off: of {clock(last)} it holds {clock(end)}; what is there "
            "can be made a video with ffmpeg -i VIDEO -c copy NEW"
        )
    # An edit list of MP4 may end before the packets do, so that duration is less exact.
    exact = "matroska" in source.format.name
    return Scan(frames, max(last - end, 0.0) if exact else 0.0, frozenset(told))


class _Changes:
    """Compares key frames with the first one."""

    def __init__(self, video_stream: VideoStream, begin: float):
        self.video_stream, self.begin = video_stream, begin
        self.first: dict[str, object] | None = None
        context = video_stream.codec_context
        context.skip_frame = "NONKEY"
        context.thread_type = ThreadType.SLICE  # else frames come out late

    def look(self, packet: Packet, now: float) -> set[str]:
        """Names of the side data of the frame of a packet, which comes at `now`, in seconds."""
        told: set[str] = set()
        context = self.video_stream.codec_context
        with suppress(FFmpegError):  # told when the video is read
            for frame in [*context.decode(packet), *context.decode(None)]:
                told |= side_data(frame).keys()
                self._compare(frame, clock(now - self.begin))
        context.flush_buffers()
        return told

    def _compare(self, frame: VideoFrame, time: str) -> None:
        try:
            found = self._about(frame)
        except ValueError as error:
            if self.first is None:
                return  # as `video.open_video` says of the first frame
            raise ValueError(f"from {time} on {error}") from error
        self.first = self.first or found
        for what, value in found.items():
            if value != self.first[what]:
                raise ValueError(
                    f"its {what} changes from {self.first[what]} to {value} at {time}; cut it there"
                    f": ffmpeg -i VIDEO -c copy -t {time} A.mkv and ffmpeg -ss {time} -i VIDEO "
                    "-c copy B.mkv"
                )

    def _about(self, frame: VideoFrame) -> dict[str, object]:
        look = look_of(frame, self.video_stream)
        aspect = Fraction(self.video_stream.codec_context.sample_aspect_ratio or 1)
        turn = (look.transpose, look.flip_rows, look.flip_columns)
        return {
            "size": f"{frame.width}×{frame.height}",
            "sample aspect": aspect,
            "turn": turn,
            "range of brightness": f"H.273 transfer {look.transfer}",
            "gamut": f"H.273 primaries {look.primaries}",
        }
