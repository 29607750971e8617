"""Makes small videos and reads their contents."""

import os
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av")

from esrgan_jax.video.video_file import open_video  # noqa: E402
from esrgan_jax.video.writer import write_video  # noqa: E402

HEIGHT, WIDTH = 24, 32
MS = Fraction(1, 1000)
STEADY = [40 * i for i in range(12)]
UNSTEADY = [0, 40, 45, 120, 121, 300, 700, 740, 750, 1001]
SAME_SIZE: dict[str, Any] = {"height": HEIGHT, "width": WIDTH}


def images(count, height=HEIGHT, width=WIDTH):
    """Yields smooth frames that all differ: swaps and rotations show even after lossy coding."""
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        rgb = [255 * x / width, 255 * y / height, np.full((height, width), 20 * i % 256)]
        yield np.stack(rgb, -1).astype(np.uint8)


def make(
    path,
    frames=None,
    times=STEADY,
    codec="libx264",
    kind="yuv420p",
    tags=None,
    turn=None,
    sound=None,
    subtitles=(),
    time_base=MS,
    options=None,
    metadata=None,
    aspect=None,
    **container_metadata,
):
    """Writes a small video of RGB arrays or av.VideoFrames; returns `path`."""
    frames = list(images(len(times)) if frames is None else frames)
    # MB-tree is off: it reads uninitialised memory in x264, which makes every video different.
    deterministic = {"crf": "1", "x264-params": "mbtree=0"}
    options = options or (deterministic if "264" in codec else {})
    first = frames[0]
    height, width = (
        first.shape[:2] if isinstance(first, np.ndarray) else (first.height, first.width)
    )
    with av.open(str(path), "w") as output:
        output.metadata.update(container_metadata)
        video_stream = output.add_stream(codec, rate=25, options=options, time_base=time_base)
        video_stream.width, video_stream.height, video_stream.pix_fmt = width, height, kind
        for name, value in (tags or {}).items():
            setattr(video_stream, name, value)
        if aspect:
            video_stream.sample_aspect_ratio = aspect
        if turn:
            video_stream.set_display_rotation(*turn)
        video_stream.metadata.update(metadata or {})
        audio = output.add_stream(sound, rate=48000) if sound else None
        if audio:
            audio.metadata["language"] = "fra"
        text = output.add_mux_stream("subrip", time_base=MS) if subtitles else None
        if text:
            text.metadata.update(language="deu", title="Untertitel")
            text.disposition = av.stream.Disposition.forced
        if "chapter" in container_metadata:
            chapter = {"id": 1, "start": 0, "end": 300, "time_base": MS}
            output.set_chapters([chapter | {"metadata": {"title": container_metadata["chapter"]}}])
        output.start_encoding()
        for begin, length, words in subtitles:
            packet = av.Packet(words.encode())
            packet.stream, packet.time_base = text, MS
            packet.pts = packet.dts = begin
            packet.duration = length
            output.mux(packet)
        for time, frame in zip(times, frames, strict=True):
            if isinstance(frame, np.ndarray):
                frame = av.VideoFrame.from_ndarray(frame, format="rgb24")
                frame = frame.reformat(format=kind, dst_colorspace=5, dst_color_range=1)
            frame.pts, frame.time_base = round(time * MS / time_base), time_base
            output.mux(video_stream.encode(frame))
        output.mux(video_stream.encode(None))
        if audio:
            wave = np.sin(np.arange(48000 * (times[-1] + 40) // 1000) / 20).astype(np.float32)
            kind = "flt" if sound == "libopus" else "fltp"
            samples = av.AudioFrame.from_ndarray(wave[None], kind, "mono")
            samples.sample_rate, samples.pts = 48000, 0
            output.mux(audio.encode(samples))
            output.mux(audio.encode(None))
    return path


def remux(source, target, attachments=(), stutter=False):
    """Copies a video with attachments; with `stutter`, pairs of audio packets share one time."""
    with av.open(str(source)) as original, av.open(str(target), "w") as output:
        copies = [output.add_stream_from_template(s, opaque=True) for s in original.streams]
        for before, after in zip(original.streams, copies, strict=True):
            after.metadata.update(before.metadata)
            after.disposition = before.disposition
        output.metadata.update(original.metadata)
        output.set_chapters(original.chapters())
        for name in attachments:
            output.add_attachment(name, attachments[name], name.encode())
        last, count = 0, 0
        for packet in original.demux():
            if packet.size:
                if stutter and packet.stream.type == "audio":
                    count += 1
                    last = packet.pts if count % 2 else last
                    packet.pts = packet.dts = last
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return target


def doubled(frames):
    """Yields each frame at twice the size, every pixel repeated."""
    for frame in frames:
        yield frame.repeat(2, 0).repeat(2, 1)


def doubled_in_batches(frames):
    """Same as `doubled`, but reads five frames before it yields their results."""
    frames = iter(frames)
    while batch := [frame for _, frame in zip(range(5), frames, strict=False)]:
        yield from doubled(batch)


def upscaled(source, target, upscale=doubled, **options):
    """Upscales a video by two and checks that no other file is left; returns `target`."""
    video = open_video(source)
    size: dict[str, Any] = {"height": 2 * video.height, "width": 2 * video.width}
    write_video(video, target, upscale, **size, **options)
    assert sorted(os.listdir(target.parent)) == sorted({source.name, target.name})
    return target


def packets(path, kind):
    """Returns (time, duration, bytes) of each packet of the first stream of a kind, in seconds."""
    with av.open(str(path)) as video:
        stream = video.streams.get({kind: 0})[0]
        return [
            (p.pts * p.time_base, p.duration * p.time_base, bytes(p))
            for p in video.demux(stream)
            if p.size
        ]


def times_of(path):
    """Returns the times of all frames, in seconds."""
    with av.open(str(path)) as video:
        return [frame.pts * frame.time_base for frame in video.decode(video=0)]


def arrays_of(path):
    """Returns the opened video and the arrays that `write_video` reads from it."""
    frames = []
    video = open_video(path)

    def keep(original):
        for frame in original:
            frames.append(frame)
            yield frame

    target = path.with_name("kept.mkv")
    write_video(video, target, keep, height=video.height, width=video.width)
    target.unlink()
    return video, frames


def damage(path, cut=None, spoil=None):
    """Cuts a file to `cut` bytes, or overwrites the video packet with index `spoil`."""
    data = bytearray(path.read_bytes())
    if spoil is not None:
        with av.open(str(path)) as video:
            packet = [p for p in video.demux(video=0) if p.size][spoil]
            offset = data.index(bytes(packet))
            data[offset : offset + packet.size] = b"\xff" * packet.size
    path.write_bytes(data[:cut])
    return path
