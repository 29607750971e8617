"""Detects videos by name or content."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import SUFFIXES as IMAGES
from esrgan_jax.video.video_file import SUFFIXES

# FFmpeg's names of formats whose frames are images, or text that it draws.
STILL = ("apng", "gif", "image2", "jpegxl_anim", "webp", "adf", "bin", "idf", "tty", "xbin")


def is_video(path: Path) -> bool:
    """Whether it is a video: by a name that tells it, else more than one image that PyAV opens.

    Animations (GIF, APNG, WebP, AVIF) are images.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in IMAGES:
        return suffix in SUFFIXES
    with suppress(OSError):
        if path.is_file():
            about = path.stat()
            return _opens_as_video(path, about.st_size, about.st_mtime_ns)
    return False


@lru_cache
def _opens_as_video(path: Path, size: int, modified: int) -> bool:  # the cache's key
    from esrgan_jax.images.foreign import VIDEO, foreign
    from esrgan_jax.images.reader import open_image

    with path.open("rb") as file:
        if foreign(file.read(4096)) not in (None, VIDEO):
            return False  # FFmpeg takes some raw files for videos
    try:
        open_image(path)
    except InputError:
        pass
    else:
        return False
    try:
        from av.error import FFmpegError

        from esrgan_jax.video.streams import find_video, first_frame, open_source
    except ImportError:
        return False
    try:
        with open_source(path) as source:
            names = source.format.name.split(",")
            if any(name in STILL or name.endswith("pipe") for name in names):
                return False
            first_frame(source, video_stream := find_video(source))
            return any(packet.size for packet in source.demux(video_stream))
    except (FFmpegError, ValueError):
        return False
