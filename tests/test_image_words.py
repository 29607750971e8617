"""Messages about files that cannot be read: plain words, with the library's text at the end."""

import io
import random
import re
import struct

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.reader import open_image

y, x = np.mgrid[0:24, 0:32]
IMAGE = Image.fromarray(np.dstack([x * 7, y * 9, (x * y) % 256]).astype(np.uint8))
PREFIX = "standard input: cannot be read as an image: "
PLAIN = ("it is ", "it contains ", "its ", "not a known format; known are ", "it has ", "it takes ")


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    IMAGE.save(file, kind, **options)
    return file.getvalue()


def message_of(data: bytes) -> str:
    """Returns the error message of a file, or "" if it can be read."""
    try:
        for _ in open_image(data).rows():
            pass
    except InputError as error:
        return str(error).removeprefix(PREFIX)
    return ""


FILES = {
    **{kind: (kind, {}) for kind in ("png", "jpeg", "webp", "gif", "tiff", "bmp", "avif", "ppm")},
    "progressive": ("jpeg", {"progressive": True}),
    "lossless": ("webp", {"lossless": True}),
    "lzw": ("tiff", {"compression": "tiff_lzw"}),
    "deflate": ("tiff", {"compression": "tiff_adobe_deflate"}),
    "jpeg in tiff": ("tiff", {"compression": "jpeg"}),
}


@pytest.mark.parametrize("name", FILES)
def test_truncated_and_damaged_files_get_messages_in_plain_words(name):
    kind, options = FILES[name]
    data, rng = encoded(kind, **options), random.Random(name)
    damaged = [data[: len(data) * part // 10] for part in range(10)]
    for _ in range(15):
        flipped = bytearray(data)
        for _ in range(3):
            flipped[rng.randrange(4, min(len(data), 300))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(flipped))
    messages = [message_of(each) for each in damaged]
    assert all(messages[:5])
    for text in messages:
        assert not text or text.startswith(PLAIN)
        assert "\n" not in text
        assert not re.search(r"vips|libpng|heif:|tiff2|webp:", text.split(" (")[0], re.I)


def patched_jpeg(marker: int, bits: int) -> bytes:
    data = bytearray(encoded("jpeg"))
    at = data.find(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    return bytes(data)


def empty_heif(brand: bytes) -> bytes:
    named = struct.pack(">I4s4s4x4s", 20, b"ftyp", brand, brand)
    return named + struct.pack(">I4sI4s100x", 116, b"moov", 108, b"mvhd")


def tiff_with_a_page_loop() -> bytes:
    data = bytearray(encoded("tiff", save_all=True, append_images=[IMAGE]))
    first = struct.unpack_from("<I", data, 4)[0]
    end = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, end, first)
    return bytes(data)


DEEP = ", which is not supported; convert it to a 16-bit PNG or TIFF"
OTHER = ", which is not supported; convert it to PNG or TIFF"
STILL = "it contains no still image: it is truncated, or a video or an animation ("


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (patched_jpeg(0xC1, 12), f"it is a JPEG of 12 bits a channel{DEEP}"),
        (patched_jpeg(0xC3, 16), f"it is a JPEG of 16 bits a channel{DEEP}"),
        (patched_jpeg(0xC3, 8), f"it is a lossless JPEG{OTHER}"),
        (patched_jpeg(0xF7, 8), f"it is a JPEG-LS{OTHER} ("),
        (patched_jpeg(0xC5, 8), f"it is of a rare kind of JPEG{OTHER} ("),
        (empty_heif(b"heic"), STILL),
        (empty_heif(b"avif"), STILL),
        (empty_heif(b"avis"), STILL),
        (tiff_with_a_page_loop(), "it is truncated or damaged"),
    ],
)
def test_unsupported_formats_are_named_in_the_message(data, text):
    assert message_of(data).startswith(text)
