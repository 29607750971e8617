"""Which encoder writes a film, and with which settings."""

import os
from collections.abc import Sequence

from av.container import OutputContainer
from av.video.stream import VideoStream

from esrgan_jax.films.frames import Look

# Of each encoder: the scale of its CRF, and the value whose loss is not seen.
HIGHEST = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63, "libsvtav1": 63}
FAITHFUL = {"libx264": 17, "libx265": 19, "libvpx-vp9": 18, "libsvtav1": 18}
LARGEST_H264 = 4096  # pixels of a side; decoders in hardware stop there


def encoder_of(suffix: str, bits: int, height: int, width: int) -> str:
    """Name of FFmpeg's encoder for frames of this size, the one that most players play.

    H.264, or H.265 for more than 8 bits or sides above 4096; in WebM VP9, or AV1 for more than
    8 bits.
    """
    if suffix == ".webm":
        return "libsvtav1" if bits > 8 else "libvpx-vp9"
    return "libx265" if bits > 8 or max(height, width) > LARGEST_H264 else "libx264"


def pixel_format(encoder: str, bits: int, height: int, width: int) -> str:
    """4:2:0, the only one that every player plays; 4:4:4 where odd sizes need it.

    H.264 and H.265 cannot say that half a chroma pixel is cut off; VP9 and AV1 can.
    """
    even = height % 2 == 0 and width % 2 == 0
    chroma = "yuv420p" if even or encoder in ("libvpx-vp9", "libsvtav1") else "yuv444p"
    return chroma + "10le" * (bits > 8)


def add_stream(
    output: OutputContainer,
    encoder: str,
    kind: str,
    look: Look,
    source: VideoStream,
    height: int,
    width: int,
    quality: int | None,
) -> VideoStream:
    """Adds the pictures to a film to be written, with the clock of their source.

    Args:
        kind: Name of the pixel format.
        quality: The encoder's CRF; None for its `FAITHFUL` one.
    """
    os.environ.setdefault("SVT_LOG", "1")  # else the AV1 encoder tells its settings on stderr
    stream = output.add_stream(
        encoder,
        rate=source.average_rate or source.guessed_rate or 25,
        options=options(encoder, look, quality),
        time_base=source.time_base,
    )
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = width, height, kind
    stream.colorspace, stream.color_range = look.matrix, look.range
    stream.color_primaries, stream.color_trc = look.primaries, look.transfer
    if encoder == "libx265" and output.format.name == "mp4":
        stream.codec_context.codec_tag = "hvc1"  # Apple's players take no other
    return stream


def options(encoder: str, look: Look, quality: int | None) -> dict[str, str]:
    """The encoder's options as FFmpeg takes them; `quality` is its CRF."""
    crf = str(FAITHFUL[encoder] if quality is None else quality)
    display, light = look.display, look.light
    if encoder == "libvpx-vp9":
        return {"crf": crf, "deadline": "good", "cpu-used": "3", "row-mt": "1"}
    if encoder == "libx264":
        return {"crf": crf, "preset": "medium"}
    if encoder == "libx265":
        told = ["log-level=error"]
        if display:
            colours = [round(50000 * value) for value in display[:8]]
            told.append(
                "master-display=" + _display(colours, [round(1e4 * v) for v in display[8:]])
            )
        if light:
            told.append(f"max-cll={light[0]},{light[1]}")
        return {"crf": crf, "preset": "medium", "x265-params": ":".join(told)}
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
