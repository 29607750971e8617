"""Writes the finished video: its new frames, and all other streams of the source."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from esrgan_jax.files import replacing, write_error
from esrgan_jax.video.encoder import Coding, add_stream
from esrgan_jax.video.parts import Parts
from esrgan_jax.video.streams import (
    ANY_TAGS,
    CONTAINERS,
    COVERS,
    commented,
    converts,
    demuxed,
    find_video,
    holds,
    open_source,
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
    parts: Parts,
    *,
    height: int,
    width: int,
    aspect: Fraction,
    software: str | None,
) -> None:
    """Writes `target` of the packets of its parts and of the source's other streams.

    Raises:
        RunError: It cannot be written; the parts stay.
    """
    suffix = target.suffix.lower()
    with (
        replacing(target) as partial,
        open_source(video.path) as source,
        _output(partial, target, CONTAINERS[suffix]) as output,
        writing(target),
    ):
        video_stream = find_video(source)
        stream = add_stream(output, coding, video.look, video_stream, height, width)
        stream.sample_aspect_ratio = aspect
        copy_tags(video_stream, stream)
        routes = {
            other[0]: copy_stream(source.streams[other[0]], output)
            for other in video.others
            if holds(suffix, other)
        }
        conversions = {
            other[0]: Conversion(source.streams[other[0]], output, suffix)
            for other in video.others
            if converts(suffix, other)
        }
        for index, conversion in conversions.items():
            copy_tags(source.streams[index], conversion.stream)
        output.metadata.update(still_true(source.metadata))
        if software:
            output.metadata.update(commented(output.metadata, software))
        output.set_chapters(source.chapters())
        output.start_encoding()
        images = _images(parts, stream, Fraction(video_stream.time_base or 0))
        waiting = next(images, None)
        copier = Copier(routes, output)
        shift = shift_of(source)
        others = [source.streams[index] for index in (*routes, *conversions)]
        for packet in _uncut(demuxed(source, *others), suffix) if others else ():
            ticks = round(shift / av.time_base / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - ticks
            packet.dts = None if packet.dts is None else packet.dts - ticks
            time = packet.dts if packet.pts is None else packet.pts
            while waiting and time is not None and _seconds(waiting) <= time * packet.time_base:
                output.mux(waiting)
                waiting = next(images, None)
            if packet.stream_index in conversions:
                for made in conversions[packet.stream_index].packets(packet):
                    output.mux(made)
            else:
                copier.write(packet)
        while waiting:
            output.mux(waiting)
            waiting = next(images, None)
        output.close()


def _uncut(packets: Iterator[Packet], suffix: str) -> Iterator[Packet]:
    """The packets without what an edit list cuts off.

    The last one before the beginning stays for decoders to begin with. Only MP4 can say that it is
    not to be heard, so elsewhere it stays if it is the only one: the silence in front of all AAC.
    """
    cut: dict[int, list[Packet]] = {}
    begun: set[int] = set()
    for packet in packets:
        if packet.size == 0:  # the empty one at the end is for decoders
            continue
        index = packet.stream_index
        if packet.is_discard:
            if index not in begun:
                cut[index] = [*cut.get(index, []), packet][-2:]
            continue
        if index not in begun:
            begun.add(index)
            before = cut.pop(index, [])
            if packet.stream.type == "audio" and (suffix == ".mp4" or len(before) == 1):
                yield from before[-1:]
        yield packet


def _seconds(packet: Packet) -> Fraction:
    return (packet.dts or 0) * Fraction(packet.time_base)


def _images(parts: Parts, stream: VideoStream, clock: Fraction) -> Iterator[Packet]:
    """The packets of the images, with the times of decoding for all segments in a row.

    A frame is decoded at the time at which another one is shown that comes earlier by as many
    frames as any frame has to wait for others.
    """
    delay = max((_delay(times) for times in parts.times()), default=0)
    early: list[int] = []
    for times in parts.times():
        early += sorted(times)
        if len(early) > delay:
            break
    step = early[delay] - early[0] if len(early) > delay else 1
    order = [time - step for time in early[:delay]]  # the times of showing, `delay` frames behind
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
    """How many frames earlier than its place in the order of showing a packet has to come."""
    places = {time: place for place, time in enumerate(sorted(times))}
    return max((index - places[time] for index, time in enumerate(times)), default=0)


@contextmanager
def _output(partial: Path, target: Path, container: str) -> Iterator[OutputContainer]:
    """A file to write; on a failure it is closed without a word, as its end is not to be."""
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    with writing(target):
        output = av.open(
            plain_name(partial), "w", format=container, container_options=options, **ANY_TAGS
        )
    try:
        yield output
    except BaseException:
        with suppress(Exception):
            output.close()
        raise


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """What FFmpeg says of a file that it writes, as a RunError."""
    try:
        yield
    except FFmpegError as error:
        raise write_error(target, error) from error


def copy_stream(stream: Stream, output: OutputContainer) -> Stream | None:
    """Adds a stream like this one, for its packets; None where it is written already."""
    if stream.disposition & Disposition.attached_pic and output.format.name == "matroska":
        codec = stream.codec_context.codec.name  # Matroska keeps covers as attachments
        with open_source(stream.container.name) as source:
            image = bytes(next(source.demux(source.streams[stream.index])))
        output.add_attachment(f"cover.{COVERS[codec][6:]}", COVERS[codec], image)
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
    """Copies the tags and disposition of a stream: language, title, default, forced."""
    copied.metadata.update(still_true(stream.metadata))
    copied.disposition = stream.disposition
