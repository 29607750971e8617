"""Converts frames to upright RGB arrays and back, using the colour tags of the video."""

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

# Without these flags swscale rounds coarsely and drops every second pixel for the chroma.
ACCURATE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
LIMITED_RANGE, FULL_RANGE = 1, 2
RGB_MATRIX, BT709_MATRIX, BT601_MATRIX = 0, 1, 6
# Codecs whose frames say whether they are interlaced. For others the container's flag is used.
FLAGS_INTERLACING = ("dvvideo", "h264", "mpeg1video", "mpeg2video", "prores", "vc1")
UNSPECIFIED_CODES = (2, 3)  # unspecified and reserved, in all three tables of ITU-T H.273
# Matrices that swscale supports: the primaries and the transfer that usually go with each.
MATRICES = {1: (1, 1), 4: (4, 4), 5: (5, 6), 6: (6, 6), 7: (7, 7), 9: (9, 14)}


@dataclass(frozen=True)
class Look:
    """Colour and orientation of a video: how its stored values become an upright image.

    Attributes:
        bits: Bits per component.
        matrix, primaries, transfer: Codes of ITU-T H.273; never unspecified.
        range: `LIMITED_RANGE` or `FULL_RANGE`.
        transpose, flip_rows, flip_columns: Steps that make a stored frame upright, in this order.
        display: Mastering display of an HDR video: x and y of red, green, blue and white, then the
            smallest and the largest luminance in cd/m².
        light: Light level of an HDR video: the brightest pixel and the largest mean of a frame, in
            cd/m².
        chroma: Chroma subsampling such as "4:2:2", "4:0:0" for gray, or "RGB".
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
    chroma: str

    @property
    def dtype(self) -> np.dtype:
        """uint8, or uint16 for videos with more than 8 bits."""
        return np.dtype(np.uint16 if self.bits > 8 else np.uint8)


def read_look(frame: av.VideoFrame, stream: VideoStream) -> Look:
    """Reads the look of a video from its first frame. Missing tags are guessed as players do.

    Raises:
        ValueError: The video is interlaced, or its colours or its rotation are not supported.
    """
    context = stream.codec_context
    by_stream = context.field_order > 1 and context.codec.name not in FLAGS_INTERLACING
    if frame.interlaced_frame or by_stream:
        raise ValueError(
            "it is interlaced, and its lines would be upscaled; deinterlace it first: "
            "ffmpeg -i VIDEO -vf bwdif=mode=send_frame -crf 12 -c:a copy NEW.mkv"
        )
    side = side_data(frame)
    matrix = BT709_MATRIX if frame.format.is_rgb else frame.colorspace
    if matrix in UNSPECIFIED_CODES and any(name.startswith("DOVI") for name in side):
        raise ValueError("the colours of this Dolby Vision profile are not supported")
    if matrix in (RGB_MATRIX, *UNSPECIFIED_CODES):
        large = max(frame.width, frame.height) >= 1280 or min(frame.width, frame.height) >= 720
        matrix = BT709_MATRIX if large else BT601_MATRIX
    if matrix not in MATRICES:
        raise ValueError(f"its colour matrix (H.273 code {matrix}) is not supported")
    primaries, transfer = MATRICES[matrix]
    if frame.color_primaries not in (0, *UNSPECIFIED_CODES):
        primaries = frame.color_primaries
    if frame.color_trc not in (0, *UNSPECIFIED_CODES):
        transfer = frame.color_trc
    stored_full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
    full = stored_full and not frame.format.is_rgb
    turn = _turn(side.get("DISPLAYMATRIX"))
    bits = max(component.bits for component in frame.format.components)
    light = side.get("CONTENT_LIGHT_LEVEL")
    return Look(
        *(bits, matrix, primaries, transfer, FULL_RANGE if full else LIMITED_RANGE, *turn),
        display=_display(side.get("MASTERING_DISPLAY_METADATA")),
        light=tuple(np.frombuffer(light[:8], np.uint32).tolist()) if light else None,
        chroma=_chroma(frame.format),
    )


def _chroma(pixel_format: av.VideoFormat) -> str:
    """Names the chroma subsampling of a pixel format."""
    if pixel_format.is_rgb or pixel_format.has_palette:
        return "RGB"
    if len(pixel_format.components) < 3:
        return "4:0:0"
    horizontal = pixel_format.chroma_width(4)
    return f"4:{horizontal}:{horizontal if pixel_format.chroma_height(4) == 4 else 0}"


def frame_notes(frame: av.VideoFrame, stream: VideoStream, found: Collection[str]) -> list[str]:
    """Returns notes on what is not kept of a video's frames.

    Args:
        found: FFmpeg's names of side data of further frames.
    """
    notes: list[str] = []
    side = {*found, *side_data(frame)}
    if any(part.is_alpha for part in frame.format.components) or "alpha_mode" in stream.metadata:
        notes.append("its transparency is dropped")
    if any(name.startswith(("DOVI", "DYNAMIC_HDR")) for name in side):
        notes.append("its HDR metadata that changes from scene to scene is dropped")
    return notes


def frame_to_array(
    frame: av.VideoFrame, look: Look, scaler: VideoReformatter, size: tuple[int, int]
) -> np.ndarray:
    """Converts a decoded frame to an upright array (H, W, 3) of `look.dtype`, full-range R'G'B'.

    Args:
        size: (width, height) of the video's stored frames. A frame of another size is resized.
    """
    deep = look.bits > 8
    matrix = frame.colorspace if frame.colorspace in MATRICES else look.matrix
    stored_full = frame.color_range == FULL_RANGE or frame.format.name.startswith("yuvj")
    range_ = FULL_RANGE if stored_full else look.range if frame.color_range == 0 else LIMITED_RANGE
    if not frame.format.is_rgb:
        frame.colorspace, frame.color_range = matrix, range_
    kind = "rgb48le" if deep else "rgb24"
    array = scaler.reformat(frame, *size, kind, interpolation=ACCURATE).to_ndarray()
    if deep and not frame.format.is_rgb:
        # White in swscale's result is the video's white, shifted left, not 65535.
        bits = max(component.bits for component in frame.format.components)
        white = 255 << 8 if range_ == LIMITED_RANGE else (1 << 16) - (1 << (16 - bits))
        array = np.minimum(array * np.float32(65535 / white) + 0.5, 65535).astype(np.uint16)
    array = array.swapaxes(0, 1) if look.transpose else array
    array = array[::-1] if look.flip_rows else array
    array = array[:, ::-1] if look.flip_columns else array
    return np.ascontiguousarray(array)


def array_to_frame(
    array: np.ndarray,
    source: av.VideoFrame,
    look: Look,
    coding: "Coding",
    scalers: tuple[VideoReformatter, VideoReformatter],
) -> av.VideoFrame:
    """Converts an array to a frame to encode, with the time, captions and siting of its source.

    Args:
        array: (H, W, 3) of `coding.dtype`.
        source: The decoded frame that `array` was upscaled from.
        scalers: One for each of the two steps, reused for every frame.
    """
    height, width = array.shape[:2]
    deep = array.dtype == np.uint16
    # Only a conversion of `source` copies side data and siting. The pixels are then overwritten.
    rgb = scalers[0].reformat(
        source, width, height, "rgb48le" if deep else "rgb24", interpolation=Interpolation.POINT
    )
    rgb.make_writable()
    rgb.colorspace, rgb.color_range = RGB_MATRIX, FULL_RANGE
    plane: Any = rgb.planes[0]
    rows = np.frombuffer(plane, array.dtype).reshape(height, -1)[:, : 3 * width]
    if deep and not coding.rgb:
        array = (array * np.float32((255 << 8) / 65535) + 0.5).astype(np.uint16)
    rows[:] = array.reshape(height, -1)
    matrix, range_ = (RGB_MATRIX, FULL_RANGE) if coding.rgb else (look.matrix, look.range)
    frame = scalers[1].reformat(
        rgb,
        format=coding.pixel_format,
        dst_colorspace=matrix,
        dst_color_range=range_,
        interpolation=ACCURATE,
    )
    frame.colorspace, frame.color_range = matrix, range_
    frame.color_primaries, frame.color_trc = look.primaries, look.transfer
    frame.pict_type = 0  # else x264 encodes each frame as the type that its source had
    frame.pts, frame.time_base, frame.duration = source.pts, source.time_base, source.duration
    return frame


def side_data(frame: av.VideoFrame) -> dict[str, bytes]:
    """Returns the side data of a frame, by FFmpeg's names."""
    found: Any = frame.side_data
    # Iterating gives the types, or before PyAV 19 the entries.
    parts = (found[part] if isinstance(part, Type) else part for part in found)
    return {part.type.name: bytes(part) for part in parts}


def _turn(matrix: bytes | None) -> tuple[bool, bool, bool]:
    """Returns (transpose, flip_rows, flip_columns) of a display matrix.

    The matrix means x' = ax + cy, y' = bx + dy.
    """
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(float)
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if max(straight, crossed) < 100 * max(min(straight, crossed), 1):
        raise ValueError("it is rotated by an angle that is not a multiple of 90 degrees")
    if crossed > straight:
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def _display(data: bytes | None) -> tuple[float, ...] | None:
    """Parses FFmpeg's AVMasteringDisplayMetadata: ten fractions, and which of them are set."""
    numbers = np.frombuffer(data[:88] if data else b"", np.int32).tolist()
    if not numbers or not all(numbers[1::2]) or not all(numbers[-2:]):
        return None
    return tuple(top / bottom for top, bottom in zip(numbers[:20:2], numbers[1:20:2], strict=True))
