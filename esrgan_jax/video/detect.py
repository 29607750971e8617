"""Detects videos by name or content."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import IMAGE_SUFFIXES
from esrgan_jax.video.video_file import VIDEO_SUFFIXES

# FFmpeg's names of formats for images, and for text that FFmpeg draws as frames.
NOT_VIDEO = ("apng", "gif", "image2", "jpegxl_anim", "webp", "adf", "bin", "idf", "tty", "xbin")


def is_video(path: Path) -> bool:
    """Returns whether a file is a video, by its suffix or else by its content.

    By content, a video is what PyAV opens and what has more than one frame. Animations (GIF, APNG,
    WebP, AVIF) count as images.
    """
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    with suppress(OSError):
        if path.is_file():
            status = path.stat()
            return _opens_as_video(path, status.st_size, status.st_mtime_ns)
    return False


@lru_cache
def _opens_as_video(path: Path, size: int, modified: int) -> bool:
    """Checks the content of a file; its size and time are keys of the cache."""
    from esrgan_jax.images.foreign import IS_VIDEO, foreign
    from esrgan_jax.images.reader import open_image

    with path.open("rb") as file:
        if foreign(file.read(4096)) not in (None, IS_VIDEO):
            return False  # FFmpeg opens some raw files as videos
    try:
        open_image(path)
    except InputError:
        pass
    else:
        return False
    try:
        from av.error import FFmpegError

        from esrgan_jax.video.streams import find_video, first_frame, open_container
    except ImportError:
        return False
    try:
        with open_container(path) as source:
            names = source.format.name.split(",")
            if any(name in NOT_VIDEO or name.endswith("pipe") for name in names):
                return False
            first_frame(source, video_stream := find_video(source))
            return any(packet.size for packet in source.demux(video_stream))
    except (FFmpegError, ValueError):
        return False
