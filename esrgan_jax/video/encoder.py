"""Chooses the encoder of a video and its settings."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from esrgan_jax.video.frames import FULL, RGB, Look

# Of each encoder: the scale of its CRF, and the value whose loss is not seen.
HIGHEST = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}
FAITHFUL = {"libx264": 17, "libx265": 19, "libvpx-vp9": 18, "libsvtav1": 18}
LARGEST_H264 = 4096  # pixels of a side; decoders in hardware stop there


@dataclass(frozen=True)
class Coding:
    """How the frames of a video are written.

    Attributes:
        encoder: FFmpeg's name.
        kind: FFmpeg's name of the pixel format.
        dtype: Of the frames to be encoded: uint8, or uint16 for more than eight bits.
        options: Of the encoder, as FFmpeg takes them.
    """

    encoder: str
    kind: str
    dtype: np.dtype
    options: dict[str, str]

    @property
    def rgb(self) -> bool:
        """Whether the frames are written as they are, and not as luma and chroma."""
        return self.encoder == "ffv1"


def coding_of(
    suffix: str,
    look: Look,
    height: int,
    width: int,
    *,
    quality: int | None = None,
    depth: int | None = None,
    lossless: bool = False,
) -> Coding:
    """The encoder that most players play, for frames of this size.

    H.264, or H.265 for more than 8 bits or sides above 4096; in WebM VP9, or AV1 for more than
    8 bits. Lossless are the frames' own RGB values, as FFV1.

    Args:
        quality: The encoder's CRF; None for its `FAITHFUL` one.
        depth: Bits of a colour; None for the video's, at most 10, or 16 if lossless.
    """
    deep = (depth or look.bits) > 8
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    if lossless:  # the slices do not depend on the machine, so that parts of videos can be joined
        options = {"level": "3", "slices": "4", "slicecrc": "1"}
        return Coding("ffv1", "gbrp16le" if deep else "bgr0", dtype, options)
    if suffix == ".webm":
        encoder = "libsvtav1" if deep else "libvpx-vp9"
    else:
        encoder = "libx265" if deep or max(height, width) > LARGEST_H264 else "libx264"
    # 4:2:0 is what every player plays; odd sizes need 4:4:4, as H.264 and H.265 cannot say that
    # half a chroma pixel is cut off. VP9 and AV1 can.
    even = height % 2 == 0 and width % 2 == 0
    chroma = "yuv420p" if even or suffix == ".webm" else "yuv444p"
    return Coding(encoder, chroma + "10le" * deep, dtype, _options(encoder, look, quality))


def add_stream(
    output: OutputContainer,
    coding: Coding,
    look: Look,
    source: VideoStream,
    height: int,
    width: int,
) -> VideoStream:
    """Adds the images to a video to be written, with the clock of their source."""
    os.environ.setdefault("SVT_LOG", "1")
    stream = output.add_stream(
        coding.encoder,
        rate=source.average_rate or source.guessed_rate or 25,
        options=coding.options,
        time_base=source.time_base,
    )
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, coding.kind
    stream.colorspace = RGB if coding.rgb else look.matrix
    stream.color_range = FULL if coding.rgb else look.range
    stream.color_primaries, stream.color_trc = look.primaries, look.transfer
    stream.thread_type = "AUTO"  # else x264 cuts each frame into slices, which costs bits
    if coding.encoder == "libx265" and output.format.name == "mp4":
        stream.codec_context.codec_tag = "hvc1"  # Apple's players take no other
    return stream


def refuses(coding: Coding, height: int, width: int) -> bool:
    """Whether the encoder cannot be had, or does not take frames of this size."""
    os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder tells its settings on stderr
    try:
        context = av.CodecContext.create(coding.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, coding.kind
        context.time_base, context.options = Fraction(1, 25), coding.options
        context.open()
    except (FFmpegError, ValueError, OverflowError):
        return True
    return False


def _options(encoder: str, look: Look, quality: int | None) -> dict[str, str]:
    crf = str(FAITHFUL[encoder] if quality is None else quality)
    display, light = look.display, look.light
    if encoder == "libvpx-vp9":
        return {"crf": crf, "deadline": "good", "cpu-used": "3", "row-mt": "1"}
    if encoder == "libx264":
        # Its MB-tree reads memory that it has not written, so no two results would be equal.
        return {"crf": crf, "preset": "medium", "x264-params": "mbtree=0"}
    if encoder == "libx265":
        told = ["log-level=error"]
        if display:
            colours = [round(50000 * value) for value in display[:8]]
            told.append(
                "master-display=" + _display(colours, [round(1e4 * v) for v in display[8:]])
            )
        if light:
            told.append(f"max-cll={light[0]},{light[1]}")
        params = ":".join(told)
        return {"crf": crf, "preset": "medium", "a53cc": "1", "x265-params": params}
    told = []
    if display:
        told.append("mastering-display=" + _display(display[:8], display[8:]))
    if light:
        told.append(f"content-light={light[0]},{light[1]}")
    return {"crf": crf, "preset": "6", "svtav1-params": ":".join(told)}


def _display(colours: Sequence[float], luminance: Sequence[float]) -> str:
    rx, ry, gx, gy, bx, by, wx, wy = (f"{value:.10g}" for value in colours)
    low, high = (f"{value:.10g}" for value in luminance)
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"
