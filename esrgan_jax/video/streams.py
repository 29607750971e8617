"""The streams of a video, and which of them each container can hold."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from esrgan_jax.errors import RunError, listed
from esrgan_jax.video.subtitles import is_text

# The videos that can be written, and FFmpeg's name for their container.
CONTAINERS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm"}
COVERS = {"png": "image/png", "mjpeg": "image/jpeg"}
# Tags that are not UTF-8 keep their bytes. PyAV 19 has no other way and lacks the argument.
ANY_TAGS: dict[str, Any] = {"metadata_errors": "surrogateescape"}
if int(av.__version__.partition(".")[0]) >= 19:
    ANY_TAGS = {}
# What a muxer writes anew, or what is true of the source's file or of its images alone.
STALE = ("_statistics", "alpha_mode", "bps", "compatible_brands", "duration", "encoder")
STALE = (*STALE, "major_brand", "minor_version", "number_of_", "rotate")
StreamId = tuple[int, str, str]  # index, kind, codec or name


def open_source(path: str | os.PathLike) -> InputContainer:
    """Opens a video; tags in strange encodings do not stop it."""
    return av.open(plain_name(path), "r", **ANY_TAGS)


def plain_name(path: str | os.PathLike) -> str:
    """A path as FFmpeg takes no part of it for a protocol, such as 12:30.mp4."""
    path = os.fspath(path)
    return os.path.join(".", path) if ":" in path and not os.path.isabs(path) else path


def shift_of(source: InputContainer) -> int:
    """What to take off all times, in microseconds.

    A broadcast begins at the hours of its sender's clock; other videos where they are to.
    """
    return (source.start_time or 0) if "mpeg" in source.format.name else 0


def find_video(source: InputContainer) -> VideoStream:
    """The stream to upscale: never a cover image.

    Raises:
        ValueError: There is none.
    """
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    streams = [s for s in source.streams.video if s.codec_context and not s.disposition & covers]
    if not streams:
        raise ValueError("there are no moving images in it that can be read")
    best = source.streams.best("video")
    return next((stream for stream in streams if stream is best), streams[0])


def other_streams(source: InputContainer, video_stream: VideoStream) -> tuple[StreamId, ...]:
    """Every stream but `video_stream`; a cover image is of the kind "cover".

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
        if stream.index != video_stream.index:
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


def loses(suffix: str, stream: StreamId) -> bool:
    """Whether a file of this name can have a stream neither as it is nor converted."""
    return not holds(suffix, stream) and not converts(suffix, stream)


def converts(suffix: str, stream: StreamId) -> bool:
    """Whether a stream of subtitles has to be converted, and can be, for a file of this name."""
    _, kind, codec = stream
    return kind == "subtitle" and not holds(suffix, stream) and is_text(codec)


def named(streams: list[StreamId]) -> str:
    """Streams in a sentence: "stream 1 (audio, aac), stream 2 (data)"."""
    return listed([f"stream {i} ({k}{', ' * bool(c)}{c})" for i, k, c in streams])


def demuxed(source: InputContainer, *streams: Stream) -> Iterator[Packet]:
    """The packets of a video that is at work. RunError where its file cannot be read on."""
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
    """Decodes the first frame; a recording may begin with the rest of one that is cut off.

    Raises:
        ValueError: There is none.
    """
    for packet in source.demux(video_stream):
        with suppress(FFmpegError):
            for frame in video_stream.decode(packet):
                return frame
    raise ValueError("it has no frame that can be read")


def still_true(tags: dict[str, str]) -> dict[str, str]:
    """The tags that are true of a new file as well."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(STALE)}


def comment_of(tags: dict[str, str]) -> tuple[str, str]:
    """(name, text) of a video's comment, as its container writes the name; "" where it has none."""
    return next(((k, v) for k, v in tags.items() if k.lower() == "comment"), ("comment", ""))


def commented(tags: dict[str, str], software: str) -> dict[str, str]:
    """The tag that says what made a video: a line below its comment, in place of an earlier one."""
    name, text = comment_of(tags)
    made = software.partition(" ")[0] + " "  # the program's name
    lines = [line for line in text.splitlines() if not line.startswith(made)]
    return {name: "\n".join([*lines, software])}


def clock(seconds: float) -> str:
    """A time in a video: 0:01:23.450."""
    text = str(timedelta(milliseconds=round(1000 * seconds)))
    return text[:-3] if "." in text else text


@cache
def _codecs(container: str) -> set[str]:
    with av.open(os.devnull, "w", format=container) as output:
        return output.supported_codecs
