"""Chooses the encoder of a video and its options."""

import contextlib
import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from esrgan_jax.video.frames import FULL_RANGE, RGB_MATRIX, Look

# The largest CRF of each encoder, and one at which no loss is visible.
HIGHEST_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}
DEFAULT_CRF = {"libx264": 17, "libx265": 19, "libvpx-vp9": 18, "libsvtav1": 18}
LARGEST_H264 = 4096  # pixels of a side; the limit of hardware decoders


@dataclass(frozen=True)
class Coding:
    """How the frames of a video are written.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name.
        dtype: dtype of the frames to encode: uint8, or uint16 for more than 8 bits.
        options: Options of the encoder, as FFmpeg takes them.
    """

    encoder: str
    pixel_format: str
    dtype: np.dtype
    options: dict[str, str]

    @property
    def rgb(self) -> bool:
        """Whether the frames are stored as RGB, not as luma and chroma."""
        return self.encoder == "ffv1"


def choose_coding(
    suffix: str,
    look: Look,
    height: int,
    width: int,
    *,
    quality: int | None = None,
    depth: int | None = None,
    lossless: bool = False,
) -> Coding:
    """Returns the coding that most players support, for frames of this size.

    H.264, or H.265 for more than 8 bits or sides above 4096; in WebM VP9, or AV1 for more than
    8 bits; lossless FFV1, which stores the RGB values of the frames.

    Args:
        suffix: Of the output: ".mp4", ".mkv" or ".webm".
        quality: CRF of the encoder; None for its `DEFAULT_CRF`.
        depth: Bits per channel: at most 10, or 16 if lossless; None for those of the video.
    """
    deep = (depth or look.bits) > 8
    dtype = np.dtype(np.uint16 if deep else np.uint8)
    if lossless:  # a fixed number of slices, so that parts from other machines can be joined
        options = {"level": "3", "slices": "4", "slicecrc": "1"}
        return Coding("ffv1", "gbrp16le" if deep else "bgr0", dtype, options)
    if suffix == ".webm":
        encoder = "libsvtav1" if deep else "libvpx-vp9"
    else:
        encoder = "libx265" if deep or max(height, width) > LARGEST_H264 else "libx264"
    # All players support 4:2:0. Odd sizes need 4:4:4 in H.264 and H.265, which crop by whole chroma
    # samples; VP9 and AV1 store odd sizes in 4:2:0.
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
    """Adds the video stream to a new file, with the time base of its source."""
    os.environ.setdefault("SVT_LOG", "1")
    stream = output.add_stream(
        coding.encoder,
        rate=source.average_rate or source.guessed_rate or 25,
        options=coding.options,
        time_base=source.time_base,
    )
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, coding.pixel_format
    stream.colorspace = RGB_MATRIX if coding.rgb else look.matrix
    stream.color_range = FULL_RANGE if coding.rgb else look.range
    stream.color_primaries, stream.color_trc = look.primaries, look.transfer
    stream.thread_type = "AUTO"  # else x264 cuts frames into slices, which costs bits
    if coding.encoder == "libx265" and output.format.name == "mp4":
        stream.codec_context.codec_tag = "hvc1"  # required by Apple's players
    return stream


@contextlib.contextmanager
def usual_priority() -> Generator[None]:
    """A context in which encoders are opened, and do not change the priority of this process.

    SVT-AV1, run by root on Linux as in containers, makes its threads and the one that opens it
    real-time ones, and threads and processes that these start later inherit it. They would run
    before everything else on the machine, and this program's other threads would stand still.
    """
    tasks = Path("/proc/self/task")
    before = os.sched_getscheduler(0) if tasks.is_dir() else None
    try:
        yield
    finally:
        if before is not None and before not in (os.SCHED_FIFO, os.SCHED_RR):
            for task in tasks.iterdir():
                with contextlib.suppress(OSError):  # it ended meanwhile
                    if os.sched_getscheduler(int(task.name)) == os.SCHED_FIFO:
                        os.sched_setscheduler(int(task.name), before, os.sched_param(0))


def encoder_refuses(coding: Coding, height: int, width: int) -> bool:
    """Returns whether the encoder is missing or does not take frames of this size."""
    os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder prints its settings
    try:
        context = av.CodecContext.create(coding.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = width, height, coding.pixel_format
        context.time_base, context.options = Fraction(1, 25), coding.options
        with usual_priority():
            context.open()
    except (FFmpegError, ValueError, OverflowError):
        return True
    return False


def _options(encoder: str, look: Look, quality: int | None) -> dict[str, str]:
    """Returns the options of a lossy encoder."""
    crf = str(DEFAULT_CRF[encoder] if quality is None else quality)
    display, light = look.display, look.light
    if encoder == "libvpx-vp9":
        return {"crf": crf, "deadline": "good", "cpu-used": "3", "row-mt": "1"}
    if encoder == "libx264":
        # x264's MB-tree reads uninitialised memory, so results would differ from run to run.
        return {"crf": crf, "preset": "medium", "x264-params": "mbtree=0"}
    if encoder == "libx265":
        params = ["log-level=error"]
        if display:
            colours = [round(50000 * value) for value in display[:8]]
            params.append(
                "master-display=" + _display(colours, [round(1e4 * v) for v in display[8:]])
            )
        if light:
            params.append(f"max-cll={light[0]},{light[1]}")
        return {"crf": crf, "preset": "medium", "a53cc": "1", "x265-params": ":".join(params)}
    params = []
    if display:
        params.append("mastering-display=" + _display(display[:8], display[8:]))
    if light:
        params.append(f"content-light={light[0]},{light[1]}")
    return {"crf": crf, "preset": "6", "svtav1-params": ":".join(params)}


def _display(colours: Sequence[float], luminance: Sequence[float]) -> str:
    """Formats a mastering display: x and y of red, green, blue, white, and the luminance."""
    rx, ry, gx, gy, bx, by, wx, wy = (f"{value:.10g}" for value in colours)
    low, high = (f"{value:.10g}" for value in luminance)
    return f"G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({high},{low})"
