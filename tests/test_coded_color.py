"""Colour codes that only the AV1 or HEVC stream has: parsed values and colours of results."""

import io
import re
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.images.color.coded_color import av1_color, hevc_color
from esrgan_jax.images.reader import open_image
from tests.test_image_color import (
    HEIC,
    P3,
    PATCHES,
    RGB,
    converted_file,
    nclx,
    srgb_patches,
    to_srgb,
)


def encoded(
    codec: str, code: tuple[int, int], pixel_format: str = "yuv420p", **options: str
) -> bytes:
    """Returns an AV1 or HEVC stream of one 64x64 image."""
    av = pytest.importorskip("av")
    from esrgan_jax.video.encoder import usual_priority

    context = av.CodecContext.create(codec, "w")
    context.width = context.height = 64
    context.pix_fmt, context.time_base, context.options = pixel_format, Fraction(1, 25), options
    context.color_primaries, context.color_trc = code
    with usual_priority():
        context.open()
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
    frame = frame.reformat(format=pixel_format)
    frame.color_primaries, frame.color_trc, frame.pts = *code, 0
    return b"".join(bytes(packet) for part in (frame, None) for packet in context.encode(part))


def configuration(stream: bytes) -> bytes:
    """Returns the hvcC box content of an HEVC stream."""
    units = [unit for unit in re.split(b"\0\0\0?\1", stream) if unit]
    units = [unit for unit in units if unit[0] >> 1 in (32, 33, 34)]
    arrays = b"".join(bytes([unit[0] >> 1, 0, 1]) + len(unit).to_bytes(2) + unit for unit in units)
    return b"\1" + bytes(21) + bytes([len(units)]) + arrays


@pytest.mark.parametrize("code", [(2, 2), (9, 16), (12, 13)])
@pytest.mark.parametrize(
    ("pixel_format", "x265_params"),
    [
        ("yuv420p", ""),
        ("yuv444p10le", "scaling-list=default:sar=7:overscan=show"),
        ("gray", "temporal-layers=3:bframes=4:range=full"),
    ],
)
def test_colour_codes_are_read_from_the_vui_of_hevc(code, pixel_format, x265_params):
    stream = encoded(
        "libx265", code, pixel_format, **{"x265-params": f"log-level=none:{x265_params}"}
    )
    assert (hevc_color(configuration(stream)) or (2, 2)) == code


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("code", [(2, 2), (9, 16), (12, 13)])
def test_colour_codes_are_read_from_the_sequence_header_of_av1(code, pixel_format):
    assert (av1_color(encoded("libsvtav1", code, pixel_format)) or (2, 2)) == code


def replace_bits(data: bytes, old: tuple[int, ...], new: tuple[int, ...]) -> bytes:
    """Replaces a sequence of 8-bit numbers that need not start at a byte boundary."""
    before, after = (bin(int.from_bytes(bytes((1, *code))))[2:] for code in (old, new))
    bits = bin(int.from_bytes(b"\1" + data))[3:]
    assert bits.count(before) == 1
    return int(bits.replace(before, after), 2).to_bytes(len(data))


def avif(code: tuple[int, int], box: bool, **options) -> bytes:
    """Returns an AVIF with the code only in its stream; its nclx box is unspecified or absent."""
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "avif", quality=100, subsampling="4:4:4", **options)
    data = replace_bits(file.getvalue(), (1, 13, 6), (*code, 6))
    return nclx(data, 2, 2) if box else data.replace(b"colrnclx", b"freenclx")


@pytest.mark.kept("coded-color")
@pytest.mark.parametrize("target", ["b.png", "b.avif"])
def test_results_keep_colours_from_the_stream(outcome, target):
    found = srgb_patches(outcome(avif((12, 13), True), target, lossless=True).path.read_bytes())
    np.testing.assert_allclose(found, to_srgb(PATCHES, matrix=P3), atol=6)


@pytest.mark.parametrize("box", [True, False])
def test_colours_of_an_avif_are_read_from_its_stream(box):
    data = avif((12, 13), box)
    np.testing.assert_allclose(
        srgb_patches(converted_file(data, ".png")), to_srgb(PATCHES, matrix=P3), atol=3
    )
    assert open_image(avif((9, 16), box)).notes[0].startswith("it is HDR (PQ)")
    assert "icc-profile-data" not in open_image(avif((1, 13), box)).metadata


def test_the_nclx_box_overrides_the_stream():
    data = nclx(avif((12, 13), True), 1, 13)
    assert "icc-profile-data" not in open_image(data).metadata


@pytest.mark.parametrize("box", [True, False])
def test_colours_of_a_heic_are_read_from_its_stream(box):
    data = nclx(HEIC, 2, 2) if box else HEIC.replace(b"colrnclx", b"freenclx")
    np.testing.assert_allclose(
        srgb_patches(converted_file(data, ".png")), to_srgb(PATCHES, matrix=P3), atol=3
    )


def test_truncated_headers_have_no_colour_codes():
    stream = encoded("libx265", (9, 16), **{"x265-params": "log-level=none"})
    whole = configuration(stream)
    assert hevc_color(whole) == (9, 16)
    assert {hevc_color(whole[:end]) for end in range(0, len(whole), 3)} <= {None, (9, 16)}
    assert av1_color(b"") is None
    assert av1_color(b"\x0a\x7f") is None
