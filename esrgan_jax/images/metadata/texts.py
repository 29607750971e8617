"""Converts text such as generation prompts between formats.

PNG stores it in chunks with keywords, EXIF in fields. What is "parameters" in a PNG,
AUTOMATIC1111 reads from UserComment; ComfyUI reads any field that begins with "prompt:" or
"workflow:". JPEG and GIF have comments without keywords.
"""

import io
import struct
from contextlib import suppress
from typing import NamedTuple

from esrgan_jax.images.formats.tiff_directory import (
    ARTIST,
    COPYRIGHT,
    EXIF_IFD,
    IMAGE_DESCRIPTION,
    MAKE,
    MODEL,
    USER_COMMENT,
    Field,
    Fields,
    first_directory,
    inner_directory,
    read_fields,
)
from esrgan_jax.images.metadata.exif import EXIF_HEADER
from esrgan_jax.images.metadata.exif_edit import edited_exif
from esrgan_jax.images.metadata.png_text import RAW_PROFILE, Text, plain_text

PARAMETERS, COMMENT, SOFTWARE = "parameters", "Comment", "Software"
WINDOWS_TITLE = 40091
FIELDS = {"Description": IMAGE_DESCRIPTION, "Author": ARTIST, "Copyright": COPYRIGHT}
GRAPHS = {"prompt": MODEL, "workflow": MAKE}  # the tags that ComfyUI writes them to
GENERATED = ("Steps: ", "Negative prompt: ")  # in a comment that AUTOMATIC1111 wrote
FULL = 65_000  # bytes of an EXIF block with texts; libexif and JPEG allow 64 KiB
# Starts of keywords that are about the file, not the image.
FILE_KEYWORDS = ("Thumb::", "exif:", "png:", "date:", RAW_PROFILE)


class TextPlaces(NamedTuple):
    """Where a format stores the texts of an image.

    Attributes:
        texts: The texts for chunks of PNG.
        comments: The comments for JPEG and GIF.
        exif: The EXIF block, with the texts that are stored in it.
        left_out: The keywords of texts that the format cannot store.
    """

    texts: tuple[Text, ...] = ()
    comments: tuple[str, ...] = ()
    exif: bytes | None = None
    left_out: tuple[str, ...] = ()


def texts_of_exif(exif: bytes) -> tuple[Text, ...]:
    """Returns the prompts in an EXIF block as the texts that a PNG would have."""
    main, detail = _fields(exif)
    texts = []
    comment = decoded_comment(detail.get(USER_COMMENT, Field(7, b"")).data)
    if any(word in comment for word in GENERATED):
        texts.append(Text(PARAMETERS, comment))
    for tag in (IMAGE_DESCRIPTION, MAKE, MODEL):
        keyword, _, text = _text(main, tag).partition(":")
        if keyword in GRAPHS and text:
            texts.append(Text(keyword, text))
    return tuple(texts)


def place_texts(texts: tuple[Text, ...], exif: bytes | None, saver: str) -> TextPlaces:
    """Decides where a format stores texts; those about the input file itself are dropped.

    Args:
        exif: The EXIF block of the result, if any, to which texts may be added.
        saver: libvips' name of the format: "png", "heif", …
    """
    texts = tuple(
        text
        for text in texts
        if text.keyword != SOFTWARE and not text.keyword.startswith(FILE_KEYWORDS)
    )
    if saver == "png":
        return TextPlaces(texts, (), exif)
    comments = tuple(t.text for t in texts if t.keyword == COMMENT and saver in ("jpeg", "gif"))
    others = [t for t in texts if not (t.keyword == COMMENT and comments)]
    if saver == "gif":
        return TextPlaces((), comments, exif, tuple(t.keyword for t in others))
    left = []
    for text in sorted(others, key=lambda text: text.keyword != PARAMETERS):
        block = _with_text(exif, text)
        if block is None or (len(block) > FULL and saver != "tiff"):
            left.append(text)
        else:
            exif = block
    rest = "\n".join(f"{text.keyword}: {text.text}" for text in left)
    block = _with_text(exif, Text(PARAMETERS, rest)) if left else None
    if block is not None and (len(block) <= FULL or saver == "tiff"):
        exif, left = block, []
    return TextPlaces((), comments, exif, tuple(text.keyword for text in left))


def decoded_comment(data: bytes) -> str:
    """Decodes a UserComment, even if its encoding prefix or its byte order is wrong."""
    code, text = data[:8], data[8:]
    if code != b"UNICODE\0":
        known = code in (b"ASCII\0\0\0", bytes(8), b"JIS\0\0\0\0\0")
        return plain_text(text if known else data).strip("\0 ")
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return text.decode("utf-16", "replace").strip("\0 ")
    both = [text.decode(f"utf-16-{order}", "replace").strip("\0 ") for order in ("be", "le")]
    return max(both, key=lambda guess: sum(letter.isascii() for letter in guess))


def encoded_comment(text: str) -> bytes:
    """Encodes a UserComment; UTF-16 is big-endian, as other programs write and expect it."""
    if text.isascii():
        return b"ASCII\0\0\0" + text.encode()
    return b"UNICODE\0" + text.encode("utf-16-be")


def _with_text(exif: bytes | None, text: Text) -> bytes | None:
    """Returns the block with a text in its field; None if the field has another text."""
    main, detail = _fields(exif or b"")
    if text.keyword in (PARAMETERS, COMMENT):
        present = decoded_comment(detail.get(USER_COMMENT, Field(7, b"")).data)
        changes = ({}, {USER_COMMENT: Field(7, encoded_comment(text.text))})
    elif text.keyword in GRAPHS:
        field, value = GRAPHS[text.keyword], f"{text.keyword}:{text.text}"
        present, changes = _text(main, field), ({field: Field(2, value.encode() + b"\0")}, {})
        text = text._replace(text=value)
    elif text.keyword in FIELDS:
        field = FIELDS[text.keyword]
        present, changes = _text(main, field), ({field: Field(2, text.text.encode() + b"\0")}, {})
    elif text.keyword == "Title":
        present = _text(main, WINDOWS_TITLE)
        value = text.text.encode("utf-16-le") + b"\0\0"
        changes = ({WINDOWS_TITLE: Field(1, value)}, {})
    else:
        return None
    if present:
        return exif if present == text.text else None
    with suppress(struct.error, ValueError):
        return edited_exif(exif or b"", *changes)
    return None


def _fields(exif: bytes) -> tuple[Fields, Fields]:
    """Returns the fields of the first and the EXIF directory; empty if the block is damaged."""
    with suppress(struct.error, ValueError):
        file = io.BytesIO(exif.removeprefix(EXIF_HEADER))
        layout, _, own = first_directory(file)
        inner = inner_directory(file, layout, own, EXIF_IFD)
        return read_fields(file, layout, own), read_fields(file, layout, inner)
    return {}, {}


def _text(fields: Fields, tag: int) -> str:
    data = fields[tag].data if tag in fields else b""
    if tag == WINDOWS_TITLE:
        return data.decode("utf-16-le", "replace").strip("\0")
    return plain_text(data).strip("\0 ")
