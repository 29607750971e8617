"""What is said of files that cannot be read: plain words, a library's own only behind them."""

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


def said(data: bytes) -> str:
    """Of a file; empty if it is read."""
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
def test_truncated_and_damaged_files_in_plain_words(name):
    kind, options = FILES[name]
    data, chance = encoded(kind, **options), random.Random(name)
    damaged = [data[: len(data) * part // 10] for part in range(10)]
    for _ in range(15):
        flipped = bytearray(data)
        for _ in range(3):
            flipped[chance.randrange(4, min(len(data), 300))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(flipped))
    texts = [said(each) for each in damaged]
    assert all(texts[:5])
    for text in texts:
        assert not text or text.startswith(PLAIN)
        assert "\n" not in text
        assert not re.search(r"vips|libpng|heif:|tiff2|webp:", text.split(" (")[0], re.I)


def jpeg_of(marker: int, bits: int) -> bytes:
    data = bytearray(encoded("jpeg"))
    at = data.find(b"\xff\xc0")
    data[at + 1], data[at + 4] = marker, bits
    return bytes(data)


def boxes(brand: bytes) -> bytes:
    named = struct.pack(">I4s4s4x4s", 20, b"ftyp", brand, brand)
    return named + struct.pack(">I4sI4s100x", 116, b"moov", 108, b"mvhd")


def tiff_of_a_loop() -> bytes:
    data = bytearray(encoded("tiff", save_all=True, append_images=[IMAGE]))
    first = struct.unpack_from("<I", data, 4)[0]
    behind = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, behind, first)
    return bytes(data)


DEEP = ", which is not supported; convert it to a 16-bit PNG or TIFF"
OTHER = ", which is not supported; convert it to PNG or TIFF"
STILL = "it contains no still image: it is truncated, or a video or an animation ("


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (jpeg_of(0xC1, 12), f"it is a JPEG of 12 bits a channel{DEEP}"),
        (jpeg_of(0xC3, 16), f"it is a JPEG of 16 bits a channel{DEEP}"),
        (jpeg_of(0xC3, 8), f"it is a lossless JPEG{OTHER}"),
        (jpeg_of(0xF7, 8), f"it is a JPEG-LS{OTHER} ("),
        (jpeg_of(0xC5, 8), f"it is of a rare kind of JPEG{OTHER} ("),
        (boxes(b"heic"), STILL),
        (boxes(b"avif"), STILL),
        (boxes(b"avis"), STILL),
        (tiff_of_a_loop(), "it is truncated or damaged"),
    ],
)
def test_kinds_that_are_not_read_are_named(data, text):
    assert said(data).startswith(text)
