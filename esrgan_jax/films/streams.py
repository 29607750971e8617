"""The streams of a film: its pictures in the order of time, and the others copied past them."""

import math
import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from functools import cache
from threading import Lock
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from esrgan_jax.errors import InputError, listed
from esrgan_jax.films.frames import Look, to_array

# The films that can be written, and FFmpeg's name for their container.
CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm"}
COVERS = {"png": "image/png", "mjpeg": "image/jpeg"}
# Tags that are not UTF-8 keep their bytes. PyAV 19 has no other way and lacks the argument.
ANY_TAGS: dict[str, Any] = {"metadata_errors": "surrogateescape"}
if int(av.__version__.partition(".")[0]) >= 19:
    ANY_TAGS = {}
CUT_OFF = 1.0  # seconds that may be missing of what a film declares
# What a muxer writes anew, or what is true of the source's file or of its pictures alone.
STALE = ("_statistics", "alpha_mode", "bps", "compatible_brands", "duration", "encoder")
STALE = (*STALE, "major_brand", "minor_version", "number_of_", "rotate")
StreamId = tuple[int, str, str]  # index, kind, codec or name


def open_source(path: str | os.PathLike) -> InputContainer:
    """Opens a film; tags in strange encodings do not stop it."""
    return av.open(os.fspath(path), "r", **ANY_TAGS)


def find_video(source: InputContainer) -> VideoStream:
    """The stream to upscale: never a cover picture.

    Raises:
        ValueError: There is none.
    """
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in source.streams.video if s.codec_context and not s.disposition & covers]
    if not streams:
        raise ValueError("there are no moving pictures in it that can be read")
    best = source.streams.best("video")
    return next((stream for stream in streams if stream is best), streams[0])


def other_streams(source: InputContainer, video: VideoStream) -> tuple[StreamId, ...]:
    """Every stream but `video`; a cover picture is of the kind "cover".

    Time codes and the titles of chapters, which MP4 keeps in streams of their own, are passed
    over: they are made anew from the tags and chapters.
    """
    found = []
    for stream in source.streams:
        kind = "cover" if stream.disposition & Disposition.attached_pic else stream.type
        codec = stream.codec_context.codec.name if stream.codec_context else ""
        if kind == "data":
            codec = stream.metadata.get("handler_name", "")
            if "timecode" in stream.metadata or (stream.name == "bin_data" and source.chapters()):
                continue
        elif kind == "attachment":
            codec = stream.name or ""
        if stream.index != video.index:
            found.append((stream.index, kind, codec))
    return tuple(found)


def holds(suffix: str, stream: StreamId) -> bool:
    """Whether a stream can be copied into a file of this name."""
    _, kind, codec = stream
    if kind == "attachment":
        return suffix == ".mkv"
    if kind == "cover":
        return suffix != ".webm" and codec in COVERS
    return kind in ("audio", "subtitle", "video") and codec in _codecs(CONTAINERS[suffix])


def named(streams: list[StreamId]) -> str:
    """Streams in a sentence: "stream 1 (audio, aac), stream 2 (data)"."""
    return listed([f"stream {i} ({k}{', ' * bool(c)}{c})" for i, k, c in streams])


def first_frame(source: InputContainer, video: VideoStream) -> VideoFrame:
    """Decodes the first frame; a recording may begin with the rest of one that is cut off.

    Raises:
        ValueError: There is none.
    """
    for packet in source.demux(video):
        with suppress(FFmpegError):
            for frame in video.decode(packet):
                return frame
    raise ValueError("it has no frame that can be read")


def count_frames(source: InputContainer, video: VideoStream) -> int:
    """The number of frames by the packets of the whole film, none of which is decoded.

    Raises:
        ValueError: The film is damaged or shorter than it declares.
    """
    frames, end = 0, 0.0
    # Other containers declare no duration, and recordings from the air always have flaws.
    strict = not {"mov", "matroska"}.isdisjoint(source.format.name.split(","))
    for packet in source.demux():
        time = packet.dts if packet.pts is None else packet.pts
        if packet.size == 0 or time is None or packet.stream.type in ("attachment", "data"):
            continue
        begin = float(time * packet.time_base)
        if strict and packet.is_corrupt:
            raise ValueError(f"it is damaged at {clock(begin)}")
        end = max(end, begin + float((packet.duration or 0) * packet.time_base))
        frames += packet.stream.index == video.index and not packet.is_discard
    last = (source.duration or 0) / av.time_base
    if strict and end + CUT_OFF < last:
        raise ValueError(
            f"it is cut off: of {clock(last)} it holds {clock(end)}; what is there "
            "can be made a film with ffmpeg -i FILM -c copy NEW"
        )
    return frames


class Reading:
    """A film being read: its frames for the network, and what has to follow their results.

    A context: when it ends, no thread reads any more, and the file can be closed.

    Args:
        others: Indices of the streams whose packets are wanted.

    Attributes:
        pending: Decoded frames whose arrays were given, oldest first.
        packets: Packets of the other streams, to be written; PyAV's files are not for threads.
        ended: Whether the last frame was given.
        concealed: How many frames the decoder had to make up in part.
    """

    def __init__(self, source: InputContainer, video: VideoStream, look: Look, others: list[int]):
        self.source, self.video, self.look = source, video, look
        self.streams = [video, *(source.streams[index] for index in others)]
        self.pending: deque[VideoFrame] = deque()
        self.packets: deque[Packet] = deque()
        self.ended, self.concealed = False, 0
        self.lock, self.closed = Lock(), False
        # A broadcast begins at the hours of its sender's clock; other films where they are to.
        self.shift = (source.start_time or 0) if "mpeg" in source.format.name else 0
        video.thread_type = "AUTO"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.closed = True

    def frames(self) -> Iterator[np.ndarray]:
        """Upright arrays, as `film_frames.to_array` makes them.

        Raises:
            InputError: The film is damaged; the message says when.
        """
        arrays = self._arrays()
        while True:
            with self.lock:
                array = None if self.closed else next(arrays, None)
            if array is None:
                return
            yield array

    def _arrays(self) -> Iterator[np.ndarray]:
        scaler, size, now, last = VideoReformatter(), None, 0.0, None
        try:
            for frame in self._decoded():
                time = frame.dts if frame.pts is None else frame.pts
                if last is not None:  # no two at one time, which no container takes
                    time = last + 1 if time is None else max(time, last + 1)
                last = frame.pts = time or 0
                now = float(last * (frame.time_base or 0))
                size = size or (frame.height, frame.width)
                if size != (frame.height, frame.width):
                    raise InputError(
                        f"{self.source.name}: its frames change from {size[1]}×{size[0]} to "
                        f"{frame.width}×{frame.height} at {clock(now)}; cut it there"
                    )
                self.concealed += frame.is_corrupt
                array = to_array(frame, self.look, scaler)
                self.pending.append(frame)
                yield array
        except FFmpegError as error:
            raise InputError(
                f"{self.source.name}: is damaged after {clock(now)}: {error.strerror}"
            ) from error
        self.ended = True

    def _decoded(self) -> Iterator[VideoFrame]:
        begun = False
        for packet in self.source.demux(*self.streams):
            shift = round(self.shift / av.time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            if packet.stream.index == self.video.index:  # the last packets' own is not set
                with suppress(*([] if begun else [FFmpegError])):  # as in `first_frame`
                    for frame in self.video.decode(packet):
                        begun = True
                        yield frame
            elif packet.size:  # the empty one at the end is for decoders
                self.packets.append(packet)


def copy_stream(stream: Stream, output: OutputContainer) -> Stream | None:
    """Adds a stream like this one, for its packets; None where it is written already."""
    if stream.disposition & Disposition.attached_pic and output.format.name == "matroska":
        codec = stream.codec_context.codec.name  # Matroska keeps covers as attachments
        with open_source(stream.container.name) as source:
            picture = bytes(next(source.demux(source.streams[stream.index])))
        output.add_attachment(f"cover.{COVERS[codec][6:]}", COVERS[codec], picture)
        return None
    copied = output.add_stream_from_template(stream, opaque=True)
    copy_tags(stream, copied)
    return None if stream.type == "attachment" else copied


class Copier:
    """Writes packets of other streams to `output`, each into its stream of `routes`."""

    def __init__(self, routes: dict[int, Stream | None], output: OutputContainer):
        self.routes, self.output = routes, output
        self.last: dict[int, int] = {}

    def write(self, packet: Packet) -> None:
        index = packet.stream_index
        copied = self.routes[index]
        if copied is None:
            return
        if copied.type != "subtitle" and packet.dts is not None:
            # Broken recordings step back in time, and muxers then refuse to go on.
            if index in self.last and packet.dts <= self.last[index]:
                tick = math.ceil(Fraction(copied.time_base or 0) / Fraction(packet.time_base))
                packet.dts = self.last[index] + max(tick, 1)
                packet.pts = max(packet.dts, packet.pts or packet.dts)
            self.last[index] = packet.dts
        packet.stream = copied
        self.output.mux(packet)


def copy_tags(stream: Stream, copied: Stream) -> None:
    """Language, title, default, forced and what else is told of a stream."""
    copied.metadata.update(still_true(stream.metadata))
    copied.disposition = stream.disposition


def still_true(tags: dict[str, str]) -> dict[str, str]:
    """The tags that are true of a new file as well."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(STALE)}


def comment_of(tags: dict[str, str]) -> tuple[str, str]:
    """(name, text) of a film's comment, as its container writes the name; "" where it has none."""
    return next(((k, v) for k, v in tags.items() if k.lower() == "comment"), ("comment", ""))


def commented(tags: dict[str, str], software: str) -> dict[str, str]:
    """The tag that says what made a film: a line below its comment, in place of an earlier one."""
    name, text = comment_of(tags)
    made = software.partition(" ")[0] + " "  # the program's name
    lines = [line for line in text.splitlines() if not line.startswith(made)]
    return {name: "\n".join([*lines, software])}


def clock(seconds: float) -> str:
    """A time in a film: 0:01:23.450."""
    text = str(timedelta(milliseconds=round(1000 * seconds)))
    return text[:-3] if "." in text else text


@cache
def _codecs(container: str) -> set[str]:
    with av.open(os.devnull, "w", format=container) as output:
        return output.supported_codecs
