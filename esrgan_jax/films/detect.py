"""Whether a file is a film: by its name where that tells it, else by what is in it."""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from esrgan_jax.errors import InputError
from esrgan_jax.films.film import SUFFIXES
from esrgan_jax.picture import SUFFIXES as PICTURES

# FFmpeg's names of formats whose frames are pictures, or text that it draws.
STILL = ("apng", "gif", "image2", "jpegxl_anim", "webp", "adf", "bin", "idf", "tty", "xbin")


def is_film(path: Path) -> bool:
    """Whether it is a film: by a name that tells it, else more than one picture that PyAV opens.

    Animations (GIF, APNG, WebP, AVIF) are pictures.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES or suffix in PICTURES:
        return suffix in SUFFIXES
    with suppress(OSError):
        if path.is_file():
            about = path.stat()
            return _opens_as_film(path, about.st_size, about.st_mtime_ns)
    return False


@lru_cache
def _opens_as_film(path: Path, size: int, modified: int) -> bool:  # the cache's key
    from esrgan_jax.pictures.foreign import FILM, foreign
    from esrgan_jax.pictures.reader import open_picture

    with path.open("rb") as file:
        if foreign(file.read(4096)) not in (None, FILM):
            return False  # FFmpeg takes some raw files for films
    try:
        open_picture(path)
    except InputError:
        pass
    else:
        return False
    try:
        from av.error import FFmpegError

        from esrgan_jax.films.streams import find_video, first_frame, open_source
    except ImportError:
        return False
    try:
        with open_source(path) as source:
            names = source.format.name.split(",")
            if any(name in STILL or name.endswith("pipe") for name in names):
                return False
            first_frame(source, video := find_video(source))
            return any(packet.size for packet in source.demux(video))
    except (FFmpegError, ValueError):
        return False
