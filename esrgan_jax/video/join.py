"""Writes the finished video: the upscaled frames and all other streams of the source."""

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from esrgan_jax.files import replacing, write_error
from esrgan_jax.video.encoder import Coding, add_stream, usual_priority
from esrgan_jax.video.parts import VideoParts
from esrgan_jax.video.streams import (
    COVERS,
    OUTPUT_CONTAINERS,
    TAG_OPTIONS,
    AnyPacket,
    commented,
    converts,
    demuxed,
    find_video,
    fraction,
    holds,
    open_container,
    plain_name,
    shift_of,
    still_true,
)
from esrgan_jax.video.subtitles import Conversion
from esrgan_jax.video.video_file import Video


def join(
    video: Video,
    target: Path,
    coding: Coding,
    parts: VideoParts,
    *,
    height: int,
    width: int,
    software: str | None,
) -> None:
    """Writes `target` from the packets of its parts and of the other streams of the source.

    Args:
        video: The source, but with the aspect of the result's pixels.
        target: The file to write.
        coding: How the parts are encoded.
        parts: All frames, in complete segments.
        height, width: Size of the frames, in pixels.
        software: A line for the comment of the result.

    Raises:
        RunError: It cannot be written. The parts are kept.
    """
    suffix = target.suffix.lower()
    with (
        replacing(target) as partial,
        open_container(video.path) as source,
        _output(partial, target, OUTPUT_CONTAINERS[suffix]) as output,
        ffmpeg_writing(target),
    ):
        video_stream = find_video(source)
        stream = add_stream(output, coding, video.look, video_stream, height, width)
        stream.sample_aspect_ratio = cast(Any, video.aspect)  # a Fraction is taken, too
        copy_tags(video_stream, stream)
        routes = {
            other.number: copy_stream(source.streams[other.number], output)
            for other in video.others
            if holds(suffix, other)
        }
        conversions = {
            other.number: Conversion(source.streams[other.number], output, suffix)
            for other in video.others
            if converts(suffix, other)
        }
        for index, conversion in conversions.items():
            copy_tags(source.streams[index], conversion.stream)
        output.metadata.update(still_true(source.metadata))
        if software:
            output.metadata.update(commented(output.metadata, software))
        output.set_chapters(source.chapters())
        with usual_priority():
            output.start_encoding()
        frame_packets = _frame_packets(parts, stream, fraction(video_stream.time_base or 0))
        pending = next(frame_packets, None)
        copier = Copier(routes, output)
        shift = shift_of(source)
        others = [source.streams[index] for index in (*routes, *conversions)]
        for packet in _uncut(demuxed(source, *others), suffix) if others else ():
            ticks = round(shift / av.time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
            time = packet.dts if packet.pts is None else packet.pts
            while pending and time is not None and _seconds(pending) <= time * packet.time_base:
                output.mux(pending)
                pending = next(frame_packets, None)
            if packet.stream_index in conversions:
                for converted in conversions[packet.stream_index].packets(packet):
                    output.mux(converted)
            else:
                copier.write(packet)
        while pending:
            output.mux(pending)
            pending = next(frame_packets, None)
        output.close()


def _uncut(packets: Iterator[AnyPacket], suffix: str) -> Iterator[AnyPacket]:
    """Yields packets without those that an edit list cuts off.

    In audio, the last packet before the start is kept, since decoders need it. Only MP4 can mark it
    as not played, so in other containers it is kept only if no other was cut off: the silence that
    AAC starts with.
    """
    cut: dict[int, list[AnyPacket]] = {}
    started: set[int] = set()
    for packet in packets:
        if packet.size == 0:  # the last one, which flushes decoders
            continue
        index = packet.stream_index
        if packet.is_discard:
            if index not in started:
                cut[index] = [*cut.get(index, []), packet][-2:]
            continue
        if index not in started:
            started.add(index)
            before = cut.pop(index, [])
            if packet.stream.type == "audio" and (suffix == ".mp4" or len(before) == 1):
                yield from before[-1:]
        yield packet


def _seconds(packet: AnyPacket) -> Fraction:
    return (packet.dts or 0) * fraction(packet.time_base)


def _frame_packets(parts: VideoParts, stream: VideoStream, clock: Fraction) -> Iterator[AnyPacket]:
    """Yields the packets of the upscaled frames, with decoding times that span all segments.

    The decoding times are the display times in order, delayed by the largest number of frames
    that any packet comes too late in that order.
    """
    delay = max((_delay(times) for times in parts.times()), default=0)
    early: list[int] = []
    for times in parts.times():
        early += sorted(times)
        if len(early) > delay:
            break
    step = early[delay] - early[0] if len(early) > delay else 1
    order = [time - step for time in early[:delay]]  # display times, `delay` frames behind
    if len(early) <= delay:
        order = [early[0] - delay + i for i in range(delay)]
    packets = parts.packets()
    for times in parts.times():
        order += sorted(times)
        for _ in times:
            encoded = next(packets)
            packet = Packet(encoded.data)
            packet.stream, packet.time_base = stream, clock
            packet.pts, packet.dts, packet.duration = encoded.time, order.pop(0), encoded.duration
            packet.is_keyframe = encoded.is_keyframe
            yield packet


def _delay(times: list[int]) -> int:
    """Returns the largest number of places that a packet comes after its place in display order."""
    places = {time: place for place, time in enumerate(sorted(times))}
    return max((index - places[time] for index, time in enumerate(times)), default=0)


@contextmanager
def _output(partial: Path, target: Path, container: str) -> Generator[OutputContainer]:
    """Opens a file to write. After a failure, errors of closing it are ignored."""
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    with ffmpeg_writing(target):
        output = av.open(
            plain_name(partial), "w", format=container, container_options=options, **TAG_OPTIONS
        )
    try:
        yield output
    except BaseException:
        with suppress(Exception):
            output.close()
        raise


@contextmanager
def ffmpeg_writing(target: Path) -> Generator[None]:
    """Converts FFmpeg's errors while it writes `target` to RunError."""
    try:
        yield
    except FFmpegError as error:
        raise write_error(target, error) from error


def copy_stream(stream: Stream, output: OutputContainer) -> Stream | None:
    """Adds a copy of a stream to `output`; returns None if it needs no packets."""
    if stream.disposition & Disposition.attached_pic and output.format.name == "matroska":
        codec = stream.codec_context.codec.name  # Matroska stores covers as attachments
        with open_container(stream.container.name) as source:
            image = bytes(next(source.demux(source.streams[stream.index])))
        output.add_attachment(f"cover.{COVERS[codec][6:]}", COVERS[codec], image)
        return None
    copied = output.add_stream_from_template(stream, opaque=True)
    copy_tags(stream, copied)
    return None if stream.type == "attachment" else copied


class Copier:
    """Copies packets to `output`, each to the stream that `routes` gives for its index."""

    def __init__(self, routes: dict[int, Stream | None], output: OutputContainer):
        self.routes, self.output = routes, output
        self.last: dict[int, int] = {}

    def write(self, packet: AnyPacket) -> None:
        """Writes a packet, or drops it if its stream in `routes` is None."""
        index = packet.stream_index
        copied = self.routes[index]
        if copied is None:
            return
        if copied.type != "subtitle" and packet.dts is not None:
            # Damaged recordings go back in time, which muxers refuse.
            if index in self.last and packet.dts <= self.last[index]:
                tick = math.ceil(fraction(copied.time_base or 0) / fraction(packet.time_base))
                packet.dts = self.last[index] + max(tick, 1)
                packet.pts = max(packet.dts, packet.pts or packet.dts)
            self.last[index] = packet.dts
        packet.stream = copied
        self.output.mux(packet)


def copy_tags(stream: Stream, copied: Stream) -> None:
    """Copies the tags and the disposition of a stream: language, title, default, forced."""
    copied.metadata.update(still_true(stream.metadata))
    copied.disposition = stream.disposition
