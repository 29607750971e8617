"""Records in a result's metadata how it was made, so that finished results can be skipped.

The record is a line with the version, a hash of the source, the settings, and the networks with
their hashes:
"esrgan_jax 0.1.0, from sha256:0123456789abcdef, scale=2, by RRDB_ESRGAN_x4.npz sha256:…".
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from esrgan_jax import __version__
from esrgan_jax.errors import InputError
from esrgan_jax.files import sha256
from esrgan_jax.images.formats.gif import read_comment
from esrgan_jax.images.reader import open_image
from esrgan_jax.video import video_file

Setting: TypeAlias = str | float | tuple[int, int]
DIGITS = 16  # hexadecimal digits of a SHA-256
RECORD_LINE = re.compile(
    r"esrgan_jax \S+, from (?P<source>\S+), (?P<settings>(\w+=\S+, )*)by (?P<by>.+)"
)
PNG_END = b"IEND\xaeB`\x82"
# An EXIF field as libvips formats it: "TEXT (TEXT, ASCII, 5 components, 5 bytes)".
EXIF_TEXT = re.compile(r"(?s)(.*) \(\1, ASCII, \d+ components, \d+ bytes\)")


def make_record(networks: str, source: Path | bytes, settings: Mapping[str, Setting]) -> str:
    """Returns the record of a result.

    Args:
        networks: `Upscaler.name`.
        source: The input file, or its content.
        settings: Options that are not the default, {name: value}.

    Returns:
        A line of ASCII, which all metadata formats can store.

    Raises:
        InputError: The source cannot be read.
    """
    try:
        in_memory = isinstance(source, bytes)
        digest = hashlib.sha256(source).hexdigest() if in_memory else sha256(source)
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from error
    words = [f"esrgan_jax {__version__}", f"from sha256:{digest[:DIGITS]}"]
    words += [f"{name}={_text(value)}" for name, value in sorted(settings.items())]
    line = f"{', '.join(words)}, by {networks}"
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return line.encode("ascii", "backslashreplace").decode()


def _text(value: Setting) -> str:
    """Formats the value of a setting, such as "9x0" for (9, 0)."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def find_record(path: Path) -> str | None:
    """Returns the record in an existing image or video, or None if it has none or is truncated."""
    try:
        if path.suffix.lower() in video_file.WRITTEN:
            texts = video_file.read_video_comment(path).splitlines()
        elif path.suffix.lower() == ".gif":
            texts = [read_comment(path)]
        elif path.suffix.lower() == ".png" and not _ends_with(path, PNG_END):
            return None  # of other formats, opening finds that the end is missing
        else:
            text = str(open_image(path).metadata.get("exif-ifd0-Software", (0, ""))[1])
            match = EXIF_TEXT.fullmatch(text)
            texts = [match[1] if match else text]
    except (InputError, ValueError, OSError):
        return None
    return next((text for text in texts if RECORD_LINE.fullmatch(text)), None)


def _ends_with(path: Path, end: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(-len(end), os.SEEK_END)
        return file.read() == end


def difference(found: str | None, record: str) -> str | None:
    """Returns how an existing result differs from a new one, or None if it does not.

    The version may differ.

    Args:
        found: The record of the existing result, from `find_record`.
        record: The record that the new result would get.

    Returns:
        The end of a sentence, such as "was made from another image".
    """
    old, new = RECORD_LINE.fullmatch(found or ""), RECORD_LINE.fullmatch(record)
    if old is None:
        return "does not say that it was made by this command"
    assert new is not None
    if old["by"] != new["by"]:
        return f"was made by {old['by']}, not by {new['by']}"
    if old["source"] != new["source"]:
        return "was made from another image"
    if old["settings"] != new["settings"]:
        return f"was made with {_settings(old)}, not with {_settings(new)}"
    return None


def _settings(match: re.Match[str]) -> str:
    return match["settings"].removesuffix(", ") or "the default settings"
