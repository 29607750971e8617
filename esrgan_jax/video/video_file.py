"""Reads the properties of a video, and its comment, before any work."""

import importlib
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from esrgan_jax.errors import InputError, missing

if TYPE_CHECKING:
    from esrgan_jax.video.frames import Look
    from esrgan_jax.video.streams import StreamId

WRITTEN = (".mp4", ".mkv", ".webm")
# Suffixes of files that always count as videos. Other videos are recognised by content.
VIDEO_SUFFIXES = (
    *(*WRITTEN, ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".h264", ".h265"),
    *(".hevc", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mov", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".nut", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".wmv", ".y4m"),
)


@dataclass(frozen=True)
class Video:
    """A video that can be read.

    Attributes:
        path: The file.
        height, width: Size of the upright frames, in pixels.
        frames: Number of frames.
        dtype: dtype of their arrays: uint8, or uint16 for more than 8 bits per channel.
        aspect: Width of a pixel over its height.
        look: Colour and orientation of the frames.
        others: All streams except the upscaled one.
        notes: Notes on what no result will have.
        side_data: FFmpeg's names of the side data of its frames.
    """

    path: Path
    height: int
    width: int
    frames: int
    dtype: np.dtype
    aspect: Fraction
    look: "Look"
    others: "tuple[StreamId, ...]"
    notes: tuple[str, ...]
    side_data: frozenset[str]


MISSING_NOTED = 0.1  # seconds; durations are rounded


def open_video(path: str | os.PathLike[str]) -> Video:
    """Reads the properties of a video, and all its packets to check that it is complete.

    Raises:
        InputError: The file is missing, damaged, cut off, interlaced or not a video; its colours
            are not supported; or PyAV is not installed.
    """
    _need_pyav()
    from av.error import FFmpegError

    from esrgan_jax.video import frames as video_frames
    from esrgan_jax.video import streams as video_streams
    from esrgan_jax.video.scan import scan

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: cannot be read as a video: no such file")
    try:
        with video_streams.open_container(path) as source:
            scanned = scan(source, video_streams.find_video(source))
        with video_streams.open_container(path) as source:
            video_stream = video_streams.find_video(source)
            others = video_streams.other_streams(source, video_stream)
            frame = video_streams.first_frame(source, video_stream)
            look = video_frames.read_look(frame, video_stream)
            aspect = video_streams.fraction(video_stream.sample_aspect_ratio or 1)
            notes = video_frames.frame_notes(frame, video_stream, scanned.side_data)
            if scanned.missing > max(MISSING_NOTED, 3 / float(video_stream.average_rate or 30)):
                notes = [*notes, f"its last {scanned.missing:.1f} s are missing: it may be cut off"]
    except FFmpegError as error:
        raise InputError(f"{path}: cannot be read as a video: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: cannot be upscaled as a video: {error}") from error
    size = (frame.width, frame.height) if look.transpose else (frame.height, frame.width)
    aspect = 1 / aspect if look.transpose else aspect
    return Video(
        path,
        *size,
        scanned.frames,
        look.dtype,
        aspect,
        look,
        others,
        tuple(notes),
        scanned.side_data,
    )


def read_video_comment(path: Path) -> str:
    """Returns the comment of a video, "" if it has none.

    Raises:
        InputError: The video cannot be read.
    """
    _need_pyav()
    from av.error import FFmpegError

    from esrgan_jax.video.streams import comment_of, open_container

    try:
        with open_container(path) as source:
            return comment_of(source.metadata)[1]
    except FFmpegError as error:
        raise InputError(f"{path}: cannot be read as a video: {error.strerror}") from error


def _need_pyav() -> None:
    """Raises InputError if PyAV cannot be imported."""
    try:
        importlib.import_module("av")
    except ImportError as error:
        raise missing("videos", "PyAV", "av<20") from error
