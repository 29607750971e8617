"""Parses the segments of a JPEG file, and finds images, gain maps and videos after its image."""

import io
import mmap
import re
import struct
from contextlib import suppress
from typing import NamedTuple

from esrgan_jax.images.formats.tiff_directory import first_directory

SEGMENT = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])")  # the next marker after coded data
START_OF_SCAN, END, COMMENT_MARKER = 0xDA, 0xD9, 0xFE
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
GAIN_MAP = (ISO_GAIN_MAP, b"hdrgm:", b"hdr-gain-map/1.0", b"hdrgainmap", b"HDRGainMap")
DEPTH = (b"depthmap", b"DepthMap", b"GDepth:", b"aux:depth", b"aux:disparity")
SEMANTIC = re.compile(rb"Item:Semantic(?:\s*=\s*[\"']|>)(\w+)")  # in Google's list of parts
SEMANTICS = {b"GainMap": "gain map (HDR)", b"RecoveryMap": "gain map (HDR)", b"Depth": "depth map"}
MP_ENTRIES, PREVIEW = 0xB002, 0x010000  # a tag of Multi-Picture Format, and a kind of its images
MP4_START = re.compile(rb"\0\0\0.ftyp", re.S)

Bytes = bytes | mmap.mmap


class Segments(NamedTuple):
    """The segments of a JPEG image.

    Attributes:
        application: (number, offset of the content, content) of each segment APP0 to APP15.
        comments: The contents of the COM segments.
        end: Offset of the end of the image; None if the end marker is missing.
    """

    application: list[tuple[int, int, bytes]]
    comments: list[bytes]
    end: int | None


def read_segments(data: Bytes, start: int = 0) -> Segments:
    """Reads the segments of the image that begins at the offset `start` of a file."""
    application, comments, at = [], [], start + 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            break
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker == END:
            return Segments(application, comments, at + 2)
        size = int.from_bytes(data[at + 2 : at + 4])
        content = data[at + 4 : at + 2 + size]
        if 0xE0 <= marker <= 0xEF:
            application.append((marker - 0xE0, at + 4, bytes(content)))
        elif marker == COMMENT_MARKER:
            comments.append(bytes(content))
        at += 2 + size
        if marker == START_OF_SCAN:
            following = SEGMENT.search(data, at)
            if following is None:
                break
            at = following.end() - 2
    whole = data[at : at + 2] == b"\xff\xd9"
    return Segments(application, comments, at + 2 if whole else None)


def further_parts(data: Bytes, segments: Segments) -> tuple[list[str], int]:
    """Finds what a JPEG file contains in addition to its image.

    Returns:
        Names such as "gain map (HDR)", "depth map", "video"; and the number of images in the
        file, including the first one, without previews.
    """
    if segments.end is None:
        return [], 1
    kinds = _multi_image(segments)
    own = b"".join(content for _, _, content in segments.application)
    video = MP4_START.search(data, segments.end)
    named = [name for name in SEMANTIC.findall(own) if name not in (b"Primary", b"MotionPhoto")]
    parts, images, at = [], 1, segments.end
    while (at := data.find(b"\xff\xd8\xff", at, video.start() if video else len(data))) >= 0:
        other = read_segments(data, at)
        theirs = b"".join(content for _, _, content in other.application)
        kind = kinds.get(at, 0 if other.end else PREVIEW)
        if any(name in theirs for name in DEPTH):
            parts.append("depth map")
        elif any(name in theirs for name in GAIN_MAP):
            parts.append("gain map (HDR)")
        elif kind == 0 and named and named[0] in SEMANTICS:
            parts.append(SEMANTICS[named.pop(0)])
        elif kind == 0 and any(name in own for name in GAIN_MAP):
            parts.append("gain map (HDR)")
        elif kind & 0xFF0000 != PREVIEW:
            images += 1
        at = other.end or at + 3
    if video:
        parts.append("video")
    if b"DualShot_DepthMap" in data[-4096:]:  # Samsung's trailer
        parts.append("depth map")
    return parts, images


def _multi_image(segments: Segments) -> dict[int, int]:
    """Returns {offset: kind} of the images that a Multi-Picture Format index lists."""
    for number, place, content in segments.application:
        if number != 2 or not content.startswith(b"MPF\0"):
            continue
        with suppress(struct.error, ValueError, KeyError):
            file = io.BytesIO(content[4:])
            layout, _, own = first_directory(file)
            _, count, offset = own[MP_ENTRIES]
            file.seek(struct.unpack(layout.counts[1], offset)[0])
            entries = struct.iter_unpack(f"{layout.order}IIIHH", file.read(count // 16 * 16))
            return {place + 4 + at if at else 0: kind & 0xFFFFFF for kind, _, at, _, _ in entries}
    return {}
