"""Checks before any work whether a video can be written to a file, and what is lost."""

import os
from pathlib import Path
from typing import TypedDict

from esrgan_jax.errors import InputError
from esrgan_jax.files import refuse_same
from esrgan_jax.video.video_file import WRITTEN, Video


class EncodingOptions(TypedDict):
    """Options of `check_video_target` and `write_video`, as in `write_video`."""

    quality: int | None
    depth: int | None
    lossless: bool


def check_video_target(
    video: Video,
    target: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    quality: int | None = None,
    depth: int | None = None,
    lossless: bool = False,
) -> list[str]:
    """Checks before any work whether a video can be written to `target`.

    Args:
        video: Its aspect is that of the result's pixels.
        target: The file to write.
        height, width: Size of the result, in pixels.
        quality: CRF of the encoder.
        depth: Bits per channel.
        lossless: Store the results exactly.

    Returns:
        Notes on what is lost or changed.

    Raises:
        InputError: The video cannot be written so, or the container cannot hold its audio or
            subtitles.
    """
    from esrgan_jax.video import encoder as video_encoder
    from esrgan_jax.video import streams as video_streams
    from esrgan_jax.video.subtitles import STYLED

    target = Path(target)
    suffix, bits = target.suffix.lower(), depth or video.look.bits
    if suffix not in WRITTEN:
        raise InputError(f"{target}: the name of a video must end in {', '.join(WRITTEN)}")
    refuse_same(video.path, target)
    _check_depth(target, depth, lossless=lossless)
    coding = video_encoder.choose_coding(
        suffix, video.look, height, width, quality=quality, depth=depth, lossless=lossless
    )
    if quality is not None and lossless:
        raise InputError("--lossless has no quality: leave out --lossless or --quality")
    highest = video_encoder.HIGHEST_CRF.get(coding.encoder, 0)
    if quality is not None and not 0 <= quality <= highest:
        raise InputError(f"the quality {quality} is not from 0 (best) to {highest}")
    if video_encoder.encoder_refuses(coding, height, width):
        raise InputError(
            f"{target}: the encoder {coding.encoder} cannot write frames of {width}×{height}; give "
            "another --scale or --size"
        )
    if suffix == ".webm" and video.aspect != 1:
        raise InputError(
            f"{target}: a .webm file cannot store the pixel aspect ratio {video.aspect} of "
            f"{video.path}; end the name in .mp4 or .mkv, or give --size for square pixels"
        )
    lost = {s: [o for o in video.others if video_streams.loses(s, o)] for s in WRITTEN}
    needed = {s: [o for o in lost[s] if o.kind in ("audio", "subtitle")] for s in WRITTEN}
    if needed[suffix]:
        able = [s for s in WRITTEN if not needed[s]]
        instead = f"end the name in {' or '.join(able)}" if able else "convert it first"
        raise InputError(
            f"{target}: a {suffix} file cannot hold {video_streams.stream_names(needed[suffix])} "
            f"of {video.path}; {instead}"
        )
    notes = [*video.notes, *_side_data_notes(video, coding.encoder)]
    for other in video.others:
        if video_streams.converts(suffix, other) and other.codec in STYLED:
            name = video_streams.stream_names([other])
            notes.append(f"the styles of {name} are dropped, its text is kept")
    if lost[suffix]:
        names = video_streams.stream_names(lost[suffix])
        notes.append(f"dropped, since {suffix} cannot hold it: {names}")
    if any(other.kind == "video" for other in video.others if other not in lost[suffix]):
        notes.append("only one of its video streams is upscaled, the others are copied")
    if "444" in coding.pixel_format:
        notes.append(
            f"{width}×{height} is odd, so its colours are written as 4:4:4, which not all players "
            "support; .webm has no such limit"
        )
    elif not coding.rgb and video.look.chroma in FINER_CHROMA:
        notes.append(
            f"its colours are {video.look.chroma} and are written as 4:2:0, which all players "
            "support; .mkv with --lossless keeps all of them"
        )
    if bits > 10 and not lossless:
        notes.append(f"{bits} bits per channel are written as 10")
    return notes


# Chroma that 4:2:0 stores with fewer samples.
FINER_CHROMA = ("RGB", "4:4:4", "4:2:2", "4:4:0", "4:1:1")
# Side data of frames: the encoders that keep it, and its name in notes.
SIDE_DATA_NOTES = {
    "SPHERICAL": ((), "its mark as a spherical video, so that players show it flat,"),
    "STEREO3D": (("libx264",), "its mark as a stereoscopic video"),
    "A53_CC": (("libx264", "libx265"), "the text of its closed captions"),
    "ICC_PROFILE": ((), "its colour profile"),
    "AMBIENT_VIEWING_ENVIRONMENT": ((), "the ambient light that its HDR was made for"),
}


def _side_data_notes(video: Video, encoder: str) -> list[str]:
    """Returns notes on side data that the encoder does not keep."""
    return [
        f"{words} is dropped"
        for name, (encoders, words) in SIDE_DATA_NOTES.items()
        if name in video.side_data and encoder not in encoders
    ]


def _check_depth(target: Path, depth: int | None, *, lossless: bool) -> None:
    """Raises InputError if the depth or lossless coding is not supported."""
    if lossless and target.suffix.lower() != ".mkv":
        raise InputError(
            f"{target}: a lossless video is written as FFV1 in .mkv: end the name in .mkv, or "
            "leave out --lossless"
        )
    depths = (8, 16) if lossless else (8, 10)
    if depth not in (None, *depths):
        other = "" if lossless else "; 16 bits need --lossless and .mkv"
        raise InputError(
            f"{target}: a depth of {depth} bits is not supported: {'lossless ' * lossless}videos "
            f"have {' or '.join(map(str, depths))} bits{other}"
        )
