"""Converts frames to upright RGB arrays and back, by the colour tags of the video."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

if TYPE_CHECKING:
    from esrgan_jax.video.encoder import Coding

# Without these swscale rounds coarsely and takes every second pixel for the chroma.
ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
ACCURATE |= Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
LIMITED, FULL = 1, 2
RGB, BT709, BT601 = 0, 1, 6
# Codecs whose frames tell whether they are interlaced; of others the container is believed.
TELLING = ("dvvideo", "h264", "mpeg1video", "mpeg2video", "prores", "vc1")
UNTOLD = (2, 3)  # unspecified and reserved, in all three tables of ITU-T H.273
# The matrices that swscale knows, with the primaries and the transfer they are used with.
MATRICES = {1: (1, 1), 4: (4, 4), 5: (5, 6), 6: (6, 6), 7: (7, 7), 9: (9, 14)}


@dataclass(frozen=True)
class Look:
    """How the numbers of a video's frames become an upright image.

    Attributes:
        bits: Bits of a component.
        matrix, primaries, transfer: Codes of ITU-T H.273, each of them told.
        range: `LIMITED` or `FULL`.
        transpose, flip_rows, flip_columns: Make a stored frame upright, in this order.
        display: Of an HDR video's mastering display: x and y of red, green, blue and white, and
            the least and the greatest luminance in cd/m².
        light: Of an HDR video: the brightest pixel and the brightest frame's average in cd/m².
    """

    bits: int
    matrix: int
    primaries: int
    transfer: int
    range: int
    transpose: bool
    flip_rows: bool
    flip_columns: bool
    display: tuple[float, ...] | None
    light: tuple[int, ...] | None

    @property
    def dtype(self) -> np.dtype:
        """uint8, or uint16 for videos of more than eight bits."""
        return np.dtype(np.uint16 if self.bits > 8 else np.uint8)


def look_of(frame: av.VideoFrame, stream: VideoStream) -> Look:
    """The look of a video by its first frame; what the tags do not tell is set as players do.

    Raises:
        ValueError: It is interlaced, or its colours or turn cannot be honoured.
    """
    by_stream = (
        stream.codec_context.field_order > 1 and stream.codec_context.codec.name not in TELLING
    )
    if frame.interlaced_frame or by_stream:
        raise ValueError(
            "it is interlaced, and its lines would be enlarged; make whole frames of it first: "
            "ffmpeg -i VIDEO -vf bwdif=mode=send_frame -crf 12 -c:a copy NEW.mkv"
        )
    side = side_data(frame)
    matrix = BT709 if frame.format.is_rgb else frame.colorspace
    if matrix in UNTOLD and any(name.startswith("DOVI") for name in side):
        raise ValueError("its colours are Dolby Vision's own, which nothing free converts")
    if matrix in (RGB, *UNTOLD):
        large = max(frame.width, frame.height) >= 1280 or min(frame.width, frame.height) >= 720
        matrix = BT709 if large else BT601
    if matrix not in MATRICES:
        raise ValueError(f"its colour matrix (H.273 code {matrix}) is not supported")
    primaries, transfer = MATRICES[matrix]
    if frame.color_primaries not in (0, *UNTOLD):
        primaries = frame.color_primaries
    if frame.color_trc not in (0, *UNTOLD):
        transfer = frame.color_trc
    stored_full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    full = stored_full and not frame.format.is_rgb
    turn = _turn(side.get("DISPLAYMATRIX"))
    bits = max(component.bits for component in frame.format.components)
    light = side.get("CONTENT_LIGHT_LEVEL")
    return Look(
        *(bits, matrix, primaries, transfer, FULL if full else LIMITED, *turn),
        display=_display(side.get("MASTERING_DISPLAY_METADATA")),
        light=tuple(np.frombuffer(light[:8], np.uint32).tolist()) if light else None,
    )


def left_out(frame: av.VideoFrame, stream: VideoStream, told: Collection[str]) -> list[str]:
    """Sentences on what of a video's images is not kept; `told` are names of side data."""
    notes, side = [], {*told, *side_data(frame)}
    if any(part.is_alpha for part in frame.format.components) or "alpha_mode" in stream.metadata:
        notes.append("its transparency is left out")
    if any(name.startswith(("DOVI", "DYNAMIC_HDR")) for name in side):
        notes.append("the part of its HDR metadata that changes from scene to scene is left out")
    return notes


def to_array(
    frame: av.VideoFrame, look: Look, scaler: VideoReformatter, size: tuple[int, int]
) -> np.ndarray:
    """A decoded frame, upright: (H, W, 3) of `look.dtype`, R'G'B' over the whole range.

    Args:
        size: (width, height) of the video's stored frames; another one is brought to it.
    """
    deep = look.bits > 8
    matrix = frame.colorspace if frame.colorspace in MATRICES else look.matrix
    stored_full = frame.color_range == FULL or frame.format.name.startswith("yuvj")
    range_ = FULL if stored_full else look.range if frame.color_range == 0 else LIMITED
    if not frame.format.is_rgb:
        frame.colorspace, frame.color_range = matrix, range_
    kind = "rgb48le" if deep else "rgb24"
    array = scaler.reformat(frame, *size, kind, interpolation=ACCURATE).to_ndarray()
    if deep and not frame.format.is_rgb:
        # swscale's white is not 65535 but what the video's white is with zeros for low bits.
        bits = max(component.bits for component in frame.format.components)
        white = 255 << 8 if range_ == LIMITED else (1 << 16) - (1 << (16 - bits))
        array = np.minimum(array * np.float32(65535 / white) + 0.5, 65535).astype(np.uint16)
    array = array.swapaxes(0, 1) if look.transpose else array
    array = array[::-1] if look.flip_rows else array
    array = array[:, ::-1] if look.flip_columns else array
    return np.ascontiguousarray(array)


def to_frame(
    array: np.ndarray,
    source: av.VideoFrame,
    look: Look,
    coding: "Coding",
    scalers: tuple[VideoReformatter, VideoReformatter],
) -> av.VideoFrame:
    """A frame to encode, with the time, the captions and the chroma siting of its source.

    Args:
        array: (H, W, 3) of `coding.dtype`.
        source: The decoded frame that `array` was made of.
        scalers: One for each of the two steps, the same ones for every frame.
    """
    height, width = array.shape[:2]
    deep = array.dtype == np.uint16
    # PyAV copies side data and siting in no other way than this; its pixels are overwritten.
    rgb = scalers[0].reformat(
        source, width, height, "rgb48le" if deep else "rgb24", interpolation=Interpolation.POINT
    )
    rgb.make_writable()
    rgb.colorspace, rgb.color_range = RGB, FULL
    plane: Any = rgb.planes[0]
    rows = np.frombuffer(plane, array.dtype).reshape(height, -1)[:, : 3 * width]
    if deep and not coding.rgb:
        array = (array * np.float32((255 << 8) / 65535) + 0.5).astype(np.uint16)
    rows[:] = array.reshape(height, -1)
    matrix, range_ = (RGB, FULL) if coding.rgb else (look.matrix, look.range)
    frame = scalers[1].reformat(
        rgb,
        format=coding.kind,
        dst_colorspace=matrix,
        dst_color_range=range_,
        interpolation=ACCURATE,
    )
    frame.colorspace, frame.color_range = matrix, range_
    frame.color_primaries, frame.color_trc = look.primaries, look.transfer
    frame.pict_type = 0  # else x264 makes the frame of the kind that the source's was
    frame.pts, frame.time_base, frame.duration = source.pts, source.time_base, source.duration
    return frame


def side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    """The side data of a frame, by FFmpeg's names."""
    found: Any = frame.side_data
    # It gives its types, as a mapping does, or before PyAV 19 what is of these types.
    parts = (found[part] if isinstance(part, Type) else part for part in found)
    return {part.type.name: bytes(part) for part in parts}


def _turn(matrix: bytes | None) -> tuple[bool, bool, bool]:
    """(transpose, flip_rows, flip_columns) of a display matrix: x' = ax + cy, y' = bx + dy."""
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(float)
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if max(straight, crossed) < 100 * max(min(straight, crossed), 1):
        raise ValueError("it is shown turned by an angle that is no right one")
    if crossed > straight:
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def _display(data: bytes | None) -> tuple[float, ...] | None:
    """FFmpeg's AVMasteringDisplayMetadata: ten fractions, and which of them are set."""
    numbers = np.frombuffer(data[:88] if data else b"", np.int32).tolist()
    if not numbers or not all(numbers[1::2]) or not all(numbers[-2:]):
        return None
    return tuple(top / bottom for top, bottom in zip(numbers[:20:2], numbers[1:20:2], strict=True))
