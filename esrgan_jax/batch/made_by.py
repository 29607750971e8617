"""Records in a result's metadata how it was made, to decide whether it may be kept.

The line names the version, the content of the source, the settings, and the networks with their
hashes: "esrgan_jax 0.1.0, from sha256:0123456789abcdef, scale=2, by RRDB_ESRGAN_x4.npz sha256:…".
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esrgan_jax import __version__
from esrgan_jax.errors import InputError
from esrgan_jax.files import sha256
from esrgan_jax.images.formats.gif import read_comment
from esrgan_jax.images.reader import open_image
from esrgan_jax.video import video_file

DIGITS = 16  # of a SHA-256
RECORD_LINE = re.compile(
    r"esrgan_jax \S+, from (?P<source>\S+), (?P<settings>(\w+=\S+, )*)by (?P<by>.+)"
)
# The text of an EXIF field as libvips gives it: "TEXT (TEXT, ASCII, 5 components, 5 bytes)".
EXIF_TEXT = re.compile(r"(?s)(.*) \(\1, ASCII, \d+ components, \d+ bytes\)")


def make_record(networks: str, source: Path | bytes, settings: Mapping[str, Any]) -> str:
    """The line of a result.

    Args:
        networks: `Upscaler.name`.
        source: The file that it is made from, or its content.
        settings: What was asked for beside that, {name: value}, without what is not set.

    Returns:
        A line of ASCII, since that is what EXIF has for it.

    Raises:
        InputError: The source cannot be read.
    """
    try:
        whole = isinstance(source, bytes)
        digest = hashlib.sha256(source).hexdigest() if whole else sha256(source)
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from error
    words = [f"esrgan_jax {__version__}", f"from sha256:{digest[:DIGITS]}"]
    words += [f"{name}={_shown(value)}" for name, value in sorted(settings.items())]
    line = f"{', '.join(words)}, by {networks}"
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
    return line.encode("ascii", "backslashreplace").decode()


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def find_record(path: Path) -> str | None:
    """The line in an image or video that is there; None where it has none or is none."""
    try:
        if path.suffix.lower() in video_file.WRITTEN:
            texts = video_file.read_video_comment(path).splitlines()
        elif path.suffix.lower() == ".gif":
            texts = [read_comment(path)]
        else:
            text = str(open_image(path).metadata.get("exif-ifd0-Software", (0, ""))[1])
            match = EXIF_TEXT.fullmatch(text)
            texts = [match[1] if match else text]
    except (InputError, ValueError, OSError):
        return None
    return next((text for text in texts if RECORD_LINE.fullmatch(text)), None)


def difference(found: str | None, wanted: str) -> str | None:
    """How a result that is there differs from the one that is wanted; None where it does not.

    The version may be another one.

    Args:
        found: Its line, as `find_record` gives it.
        wanted: The line that it would get.

    Returns:
        The end of a sentence, such as "was made from another image".
    """
    there, new = RECORD_LINE.fullmatch(found or ""), RECORD_LINE.fullmatch(wanted)
    if there is None:
        return "does not say that it was made by this command"
    assert new is not None
    if there["by"] != new["by"]:
        return f"was made by {there['by']}, not by {new['by']}"
    if there["source"] != new["source"]:
        return "was made from another image"
    if there["settings"] != new["settings"]:
        return f"was made with {_settings(there)}, not with {_settings(new)}"
    return None


def _settings(match: re.Match[str]) -> str:
    return match["settings"].removesuffix(", ") or "the default settings"
