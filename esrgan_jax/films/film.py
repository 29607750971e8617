"""Films in and out through PyAV, frame by frame: nothing but a few frames is ever in memory."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.files import refuse_same, replacing

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet

    from esrgan_jax.films.frames import Look

WRITTEN = (".mp4", ".mkv", ".webm")
SUFFIXES = (*WRITTEN, ".avi", ".flv", ".m2ts", ".m4v", ".mov", ".mpg", ".mts", ".ts", ".wmv")


@dataclass(frozen=True)
class Film:
    """A film that can be read.

    Attributes:
        height, width: Of the upright frames, in pixels.
        frames: How many there are.
        dtype: Of their arrays: uint8, or uint16 where a colour has more than eight bits.
        aspect: Width of a pixel over its height.
        look: How the frames are turned and coloured.
        others: (index, kind, codec or name) of the streams beside its pictures.
        notes: Sentences on what of it no result will have.
    """

    path: Path
    height: int
    width: int
    frames: int
    dtype: np.dtype
    aspect: Fraction
    look: "Look"
    others: tuple[tuple[int, str, str], ...]
    notes: tuple[str, ...]


def open_film(path: str | os.PathLike) -> Film:
    """Reads what a film is, and all its packets, undecoded, to see that it is whole.

    Raises:
        InputError: The file is missing, damaged, cut off, interlaced or no film; its colours are
            of a kind that cannot be converted; or PyAV is not installed.
    """
    _need_pyav()
    from av.error import FFmpegError

    from esrgan_jax.films import frames as film_frames
    from esrgan_jax.films import streams as film_streams

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: cannot be read as a film: no such file")
    try:
        with film_streams.open_source(path) as source:
            frames = film_streams.count_frames(source, film_streams.find_video(source))
        with film_streams.open_source(path) as source:
            video = film_streams.find_video(source)
            others = film_streams.other_streams(source, video)
            frame = film_streams.first_frame(source, video)
            look = film_frames.look_of(frame, video)
            aspect = Fraction(video.sample_aspect_ratio or 1)
            notes = film_frames.left_out(frame, video)
    except FFmpegError as error:
        raise InputError(f"{path}: cannot be read as a film: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path}: cannot be upscaled as a film: {error}") from error
    size = (frame.width, frame.height) if look.transpose else (frame.height, frame.width)
    aspect = 1 / aspect if look.transpose else aspect
    return Film(path, *size, frames, look.dtype, aspect, look, others, tuple(notes))


def read_comment(path: Path) -> str:
    """The comment of a film, "" where it has none.

    Raises:
        InputError: It cannot be read.
    """
    _need_pyav()
    from av.error import FFmpegError

    from esrgan_jax.films.streams import comment_of, open_source

    try:
        with open_source(path) as source:
            return comment_of(source.metadata)[1]
    except FFmpegError as error:
        raise InputError(f"{path}: cannot be read as a film: {error.strerror}") from error


def check_target(
    film: Film, target: str | os.PathLike, *, height: int, width: int, quality: int | None = None
) -> list[str]:
    """What of a film is lost or unusual in a file of this name, told before any work.

    Returns:
        Sentences for the user, mostly none.

    Raises:
        InputError: The film cannot be written so. Sound and subtitles that the container cannot
            hold are such a reason: who wants them would see only after hours that they are gone.
    """
    from esrgan_jax.films import encoder as film_encoder
    from esrgan_jax.films import streams as film_streams

    target = Path(target)
    suffix, bits = target.suffix.lower(), film.look.bits
    if suffix not in WRITTEN:
        raise InputError(f"{target}: let the name of a film end in {', '.join(WRITTEN)}")
    refuse_same(film.path, target)
    encoder = film_encoder.encoder_of(suffix, bits, height, width)
    highest = film_encoder.HIGHEST[encoder]
    if quality is not None and not 0 <= quality <= highest:
        raise InputError(f"the quality {quality} is not in 0 (best) to {highest}, as for {suffix}")
    if suffix == ".webm" and film.aspect != 1:
        raise InputError(
            f"{target}: a .webm file cannot tell that pixels have the aspect {film.aspect}, as in "
            f"{film.path}; let the name end in .mp4 or .mkv"
        )
    lost = {s: [o for o in film.others if not film_streams.holds(s, o)] for s in WRITTEN}
    grave = {s: [o for o in lost[s] if o[1] in ("audio", "subtitle")] for s in WRITTEN}
    if grave[suffix]:
        fit = [s for s in WRITTEN if not grave[s]]
        raise InputError(
            f"{target}: a {suffix} file cannot hold {film_streams.named(grave[suffix])} of "
            f"{film.path}; {'end the name in ' + ' or '.join(fit) if fit else 'convert that first'}"
        )
    notes = list(film.notes)
    if lost[suffix]:
        notes.append(f"left out, as no {suffix} holds it: {film_streams.named(lost[suffix])}")
    if any(other[1] == "video" for other in film.others if other not in lost[suffix]):
        notes.append("only one of its moving pictures is upscaled, the others are copied")
    if "444" in film_encoder.pixel_format(encoder, bits, height, width):
        notes.append(
            f"{width}×{height} is odd, so its colours are written as 4:4:4, which not all players "
            "play; they do play .webm"
        )
    if bits > 10:
        notes.append(f"{bits} bits of a colour are written as 10")
    return notes


def write_film(
    film: Film,
    target: str | os.PathLike,
    upscale: Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]],
    *,
    height: int,
    width: int,
    quality: int | None = None,
    software: str | None = None,
) -> list[str]:
    """Writes a film with all its frames upscaled and everything else as it is.

    The frames keep their times: exactly in MP4, to the millisecond in Matroska and WebM, which
    know no less. Other streams are copied packet by packet, chapters and tags with them.

    Args:
        target: Ends in `.mp4`, `.mkv` or `.webm`. It is there whole or not at all.
        upscale: Makes of frames (H, W, 3) of the film's dtype as many (height, width, 3), of the
            same dtype and in the same order. It may take several before it gives one, and take
            them in another thread. What it raises comes out as it is.
        height, width: Of the results, in pixels.
        quality: The encoder's CRF, 0 is the best; None for one whose loss is not seen.
        software: What made the film: a line of its comment, behind what is there.

    Returns:
        Sentences for the user on what was found underway, mostly none.

    Raises:
        InputError: As from `check_target`; or the film is damaged, and the message says when.
        RunError: The film cannot be written.
    """
    check_target(film, target, height=height, width=width, quality=quality)
    from av.video.reformatter import VideoReformatter

    from esrgan_jax.films import encoder as film_encoder
    from esrgan_jax.films import frames as film_frames
    from esrgan_jax.films import streams as film_streams

    target = Path(target)
    suffix = target.suffix.lower()
    encoder = film_encoder.encoder_of(suffix, film.look.bits, height, width)
    kind = film_encoder.pixel_format(encoder, film.look.bits, height, width)
    scalers = VideoReformatter(), VideoReformatter()
    durations: dict[int, int] = {}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{target}: could not be written: {error.strerror}") from error
    with (
        replacing(target) as partial,
        film_streams.open_source(film.path) as source,
        _output(partial, target, film_streams.CONTAINERS[suffix]) as output,
    ):
        video = film_streams.find_video(source)
        with _writing(target):
            stream = film_encoder.add_stream(
                output, encoder, kind, film.look, video, height, width, quality
            )
            stream.sample_aspect_ratio = film.aspect
            film_streams.copy_tags(video, stream)
            routes = {
                other[0]: film_streams.copy_stream(source.streams[other[0]], output)
                for other in film.others
                if film_streams.holds(suffix, other)
            }
            output.metadata.update(film_streams.still_true(source.metadata))
            if software:
                output.metadata.update(film_streams.commented(output.metadata, software))
            output.set_chapters(source.chapters())
            output.start_encoding()
        copier = film_streams.Copier(routes, output)

        def mux(encoded: "list[Packet]") -> None:
            while reading.packets:
                copier.write(reading.packets.popleft())
            for packet in encoded:
                packet.duration = durations.pop(packet.pts or 0, packet.duration)
                output.mux(packet)

        with film_streams.Reading(source, video, film.look, list(routes)) as reading:
            for result in upscale(reading.frames()):
                if result.shape != (height, width, 3) or result.dtype != film.dtype:
                    given = f"{result.dtype} {result.shape}"
                    raise ValueError(f"{given} is no {film.dtype} {(height, width, 3)}")
                if not reading.pending:
                    raise ValueError("upscale gave more frames than it took")
                frame = reading.pending.popleft()
                durations[frame.pts or 0] = frame.duration
                frame = film_frames.to_frame(result, frame, film.look, kind, scalers)
                with _writing(target):
                    mux(stream.encode(frame))
            if reading.pending or not reading.ended:
                raise ValueError("upscale gave fewer frames than the film has")
        with _writing(target):
            mux(stream.encode(None))
            output.close()
    if reading.concealed:
        return [f"{film.path}: {reading.concealed} frames are damaged; their gaps were guessed"]
    return []


@contextmanager
def _output(partial: Path, target: Path, container: str) -> "Iterator[OutputContainer]":
    """A file to write; on a failure it is closed without a word, as its end is not to be."""
    import av

    from esrgan_jax.films.streams import ANY_TAGS

    options = {"movflags": "+faststart"} if container == "mp4" else {}
    with _writing(target):
        output = av.open(str(partial), "w", format=container, container_options=options, **ANY_TAGS)
    try:
        yield output
    except BaseException:
        with suppress(Exception):
            output.close()
        raise


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    from av.error import FFmpegError

    try:
        yield
    except FFmpegError as error:
        raise RunError(f"{target}: could not be written: {error.strerror}") from error


def _need_pyav() -> None:
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise InputError("film needs PyAV: pip install 'esrgan_jax[video]'") from error
