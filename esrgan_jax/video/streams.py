"""The streams of a video, and which of them each container can hold."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from esrgan_jax.errors import RunError, listed
from esrgan_jax.video.subtitles import is_text

# Suffixes of videos that can be written, and FFmpeg's names of their containers.
OUTPUT_CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm"}
COVERS = {"png": "image/png", "mjpeg": "image/jpeg"}
# Keeps the bytes of tags that are not UTF-8. PyAV 19 always does so, and has no such argument.
BEFORE_19 = int(av.__version__.partition(".")[0]) < 19
TAG_OPTIONS: dict[str, Any] = {"metadata_errors": "surrogateescape"} if BEFORE_19 else {}
# Starts of the names of tags that the muxer writes itself, or that are true of the source only.
STALE_TAGS = (
    *("_statistics", "alpha_mode", "bps", "compatible_brands", "duration", "encoder"),
    *("major_brand", "minor_version", "number_of_", "rotate"),
)
AnyPacket: TypeAlias = "Packet[Stream]"  # at run time Packet takes no parameters


class StreamId(NamedTuple):
    """A stream of a video.

    Attributes:
        number: Its index in the file.
        kind: "video", "audio", "subtitle", "data", "attachment" or "cover".
        codec: FFmpeg's name of the codec, or the name of data or of an attachment.
    """

    number: int
    kind: str
    codec: str


def fraction(number: Any) -> Fraction:
    """Converts a rational number of PyAV, which from version 19 on has a type for them."""
    return Fraction(number.numerator, number.denominator)


def open_container(path: str | os.PathLike[str]) -> InputContainer:
    """Opens a video. Its tags may have any encoding."""
    return av.open(plain_name(path), "r", **TAG_OPTIONS)


def plain_name(path: str | os.PathLike[str]) -> str:
    """Returns a path of which FFmpeg takes no part for a protocol, as it would for 12:30.mp4."""
    path = os.fspath(path)
    return os.path.join(".", path) if ":" in path and not os.path.isabs(path) else path


def shift_of(source: InputContainer) -> int:
    """Returns the microseconds to subtract from all times.

    A broadcast starts at any time of the sender's clock. Other videos keep their times.
    """
    return (source.start_time or 0) if "mpeg" in source.format.name else 0


def find_video(source: InputContainer) -> VideoStream:
    """Returns the video stream to upscale, never a cover image.

    Raises:
        ValueError: The file contains no such stream.
    """
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in source.streams.video if s.codec_context and not s.disposition & covers]
    if not streams:
        raise ValueError("it contains no video stream that can be read")
    best = source.streams.best("video")
    return next((stream for stream in streams if stream is best), streams[0])


def other_streams(source: InputContainer, video_stream: VideoStream) -> tuple[StreamId, ...]:
    """Returns all streams except `video_stream`.

    MP4's streams of time codes and chapter titles are left out: the muxer makes them from the tags
    and chapters.
    """
    found: list[StreamId] = []
    for stream in source.streams:
        kind = "cover" if stream.disposition & Disposition.attached_pic else stream.type
        codec = stream.codec_context.codec.name if stream.codec_context else ""
        if kind == "data":
            codec = stream.metadata.get("handler_name", "")
            if "timecode" in stream.metadata or (stream.name == "bin_data" and source.chapters()):
                continue
        elif kind == "attachment":
            codec = stream.name or ""
        if stream.index != video_stream.index:
            found.append(StreamId(stream.index, kind, codec))
    return tuple(found)


def holds(suffix: str, stream: StreamId) -> bool:
    """Returns whether a stream can be copied to a file with this suffix."""
    _, kind, codec = stream
    if kind == "attachment":
        return suffix == ".mkv"
    if kind == "cover":
        return suffix != ".webm" and codec in COVERS
    return kind in ("audio", "subtitle", "video") and codec in _codecs(OUTPUT_CONTAINERS[suffix])


def loses(suffix: str, stream: StreamId) -> bool:
    """Returns whether a file with this suffix can hold a stream neither copied nor converted."""
    return not holds(suffix, stream) and not converts(suffix, stream)


def converts(suffix: str, stream: StreamId) -> bool:
    """Returns whether a stream is text subtitles that must be converted for this suffix."""
    _, kind, codec = stream
    return kind == "subtitle" and not holds(suffix, stream) and is_text(codec)


def stream_names(streams: list[StreamId]) -> str:
    """Names streams for a message: "stream 1 (audio, aac), stream 2 (data)"."""
    return listed([f"stream {i} ({k}{', ' * bool(c)}{c})" for i, k, c in streams])


def demuxed(source: InputContainer, *streams: Stream) -> Iterator[AnyPacket]:
    """Yields the packets of a video while it is upscaled; RunError if reading fails."""
    packets = source.demux(*streams)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except FFmpegError as error:
            raise RunError(
                f"{source.name}: could not be read to its end: {error.strerror}"
            ) from error
        yield packet


def first_frame(source: InputContainer, video_stream: VideoStream) -> VideoFrame:
    """Decodes the first complete frame; a recording may start with the rest of a cut-off one.

    Raises:
        ValueError: No frame can be decoded.
    """
    for packet in source.demux(video_stream):
        with suppress(FFmpegError):
            for frame in video_stream.decode(packet):
                return frame
    raise ValueError("it has no frame that can be read")


def still_true(tags: dict[str, str]) -> dict[str, str]:
    """Returns the tags that are true of the result too."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(STALE_TAGS)}


def comment_of(tags: dict[str, str]) -> tuple[str, str]:
    """Returns (tag name, text) of a video's comment; the text is "" if it has none."""
    return next(((k, v) for k, v in tags.items() if k.lower() == "comment"), ("comment", ""))


def commented(tags: dict[str, str], software: str) -> dict[str, str]:
    """Returns the comment tag with the line `software`, which replaces an earlier such line."""
    name, text = comment_of(tags)
    program = software.partition(" ")[0] + " "
    lines = [line for line in text.splitlines() if not line.startswith(program)]
    return {name: "\n".join([*lines, software])}


def clock(seconds: float) -> str:
    """Formats a time in a video: 0:01:23.450."""
    text = str(timedelta(milliseconds=round(1000 * seconds)))
    return text[:-3] if "." in text else text


@cache
def _codecs(container: str) -> set[str]:
    """Returns the names of the codecs that a container can hold."""
    with av.open(os.devnull, "w", format=container) as output:
        return output.supported_codecs
