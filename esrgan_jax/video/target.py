"""Checks before any work whether a video can be written to a file, and what is lost."""

import os
from pathlib import Path

from esrgan_jax.errors import InputError
from esrgan_jax.files import refuse_same
from esrgan_jax.video.video_file import WRITTEN, Video


def check_target(
    video: Video,
    target: str | os.PathLike,
    *,
    height: int,
    width: int,
    quality: int | None = None,
    depth: int | None = None,
    lossless: bool = False,
) -> list[str]:
    """What of a video is lost or unusual in a file of this name, told before any work.

    Args:
        video: What is upscaled; its aspect is the one of the result's pixels.
        depth: Bits of a colour.

    Returns:
        Sentences for the user, mostly none.

    Raises:
        InputError: The video cannot be written so. Sound and subtitles that the container cannot
            hold are such a reason: who wants them would see only after hours that they are gone.
    """
    from esrgan_jax.video import encoder as video_encoder
    from esrgan_jax.video import streams as video_streams
    from esrgan_jax.video.subtitles import STYLED

    target = Path(target)
    suffix, bits = target.suffix.lower(), depth or video.look.bits
    if suffix not in WRITTEN:
        raise InputError(f"{target}: let the name of a video end in {', '.join(WRITTEN)}")
    refuse_same(video.path, target)
    _check_depth(target, depth, lossless=lossless)
    coding = video_encoder.coding_of(
        suffix, video.look, height, width, quality=quality, depth=depth, lossless=lossless
    )
    if quality is not None and lossless:
        raise InputError("--lossless leaves nothing for --quality: give one of both")
    highest = video_encoder.HIGHEST.get(coding.encoder, 0)
    if quality is not None and not 0 <= quality <= highest:
        raise InputError(f"the quality {quality} is not in 0 (best) to {highest}, as for {suffix}")
    if video_encoder.refuses(coding, height, width):
        raise InputError(
            f"{target}: the encoder {coding.encoder} takes no frames of {width}×{height}; give "
            "another --scale or --size"
        )
    if suffix == ".webm" and video.aspect != 1:
        raise InputError(
            f"{target}: a .webm file cannot tell that pixels have the aspect {video.aspect}, as in "
            f"{video.path}; let the name end in .mp4 or .mkv, or give a --size, which makes them "
            "square"
        )
    lost = {
        s: [
            o
            for o in video.others
            if not video_streams.holds(s, o) and not video_streams.converts(s, o)
        ]
        for s in WRITTEN
    }
    grave = {s: [o for o in lost[s] if o[1] in ("audio", "subtitle")] for s in WRITTEN}
    if grave[suffix]:
        fit = [s for s in WRITTEN if not grave[s]]
        instead = f"end the name in {' or '.join(fit)}" if fit else "convert it first"
        raise InputError(
            f"{target}: a {suffix} file cannot hold {video_streams.named(grave[suffix])} of "
            f"{video.path}; {instead}"
        )
    notes = [*video.notes, *_untold(video, coding.encoder)]
    for other in video.others:
        if video_streams.converts(suffix, other) and other[2] in STYLED:
            notes.append(
                f"the styles of {video_streams.named([other])} are left out, its text stays"
            )
    if lost[suffix]:
        notes.append(f"left out, as no {suffix} holds it: {video_streams.named(lost[suffix])}")
    if any(other[1] == "video" for other in video.others if other not in lost[suffix]):
        notes.append("only one of its moving images is upscaled, the others are copied")
    if "444" in coding.kind:
        notes.append(
            f"{width}×{height} is odd, so its colours are written as 4:4:4, which not all players "
            "play; they do play .webm"
        )
    if bits > 10 and not lossless:
        notes.append(f"{bits} bits of a colour are written as 10")
    return notes


# Side data of frames: the encoders that keep it, and how messages call it.
BESIDE = {
    "SPHERICAL": ((), "its mark as a spherical video, so that players show it flat,"),
    "STEREO3D": (("libx264",), "its mark as a stereoscopic video"),
    "A53_CC": (("libx264", "libx265"), "the text of its closed captions"),
    "ICC_PROFILE": ((), "its colour profile"),
    "AMBIENT_VIEWING_ENVIRONMENT": ((), "the ambient light that its HDR was made for"),
}


def _untold(video: Video, encoder: str) -> list[str]:
    told = [
        (keepers, words) for name, (keepers, words) in BESIDE.items() if name in video.side_data
    ]
    return [f"{words} is left out" for keepers, words in told if encoder not in keepers]


def _check_depth(target: Path, depth: int | None, *, lossless: bool) -> None:
    if lossless and target.suffix.lower() != ".mkv":
        raise InputError(
            f"{target}: a lossless video is written as FFV1, which players expect in .mkv alone: "
            "let the name end so, or leave --lossless out"
        )
    depths = (8, 16) if lossless else (8, 10)
    if depth not in (None, *depths):
        other = "" if lossless else "; 16 need --lossless and a name that ends in .mkv"
        raise InputError(
            f"{target}: a depth of {depth} bits: {'lossless ' * lossless}videos are written with "
            f"{' or '.join(map(str, depths))}{other}"
        )
