"""Colours that only the coded image names, by decoders and by what results look like."""

import io
import re
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.images.color.coded_color import av1_color, hevc_color
from esrgan_jax.images.reader import open_image
from tests.test_image_color import HEIC, P3, PATCHES, RGB, managed, nclx, shown, written


def encoded(codec: str, code: tuple[int, int], form: str = "yuv420p", **options: str) -> bytes:
    """An image of 64 by 64 in AV1 or HEVC."""
    av = pytest.importorskip("av")
    context = av.CodecContext.create(codec, "w")
    context.width = context.height = 64
    context.pix_fmt, context.time_base, context.options = form, Fraction(1, 25), options
    context.color_primaries, context.color_trc = code
    frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
    frame = frame.reformat(format=form)
    frame.color_primaries, frame.color_trc, frame.pts = *code, 0
    return b"".join(bytes(packet) for part in (frame, None) for packet in context.encode(part))


def configuration(stream: bytes) -> bytes:
    """The hvcC of a stream of HEVC."""
    units = [unit for unit in re.split(b"\0\0\0?\1", stream) if unit]
    units = [unit for unit in units if unit[0] >> 1 in (32, 33, 34)]
    arrays = b"".join(bytes([unit[0] >> 1, 0, 1]) + len(unit).to_bytes(2) + unit for unit in units)
    return b"\1" + bytes(21) + bytes([len(units)]) + arrays


@pytest.mark.parametrize("code", [(2, 2), (9, 16), (12, 13)])
@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("yuv420p", ""),
        ("yuv444p10le", "scaling-list=default:sar=7:overscan=show"),
        ("gray", "temporal-layers=3:bframes=4:range=full"),
    ],
)
def test_vui_of_hevc(code, form, told):
    stream = encoded("libx265", code, form, **{"x265-params": f"log-level=none:{told}"})
    assert (hevc_color(configuration(stream)) or (2, 2)) == code


@pytest.mark.parametrize("form", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("code", [(2, 2), (9, 16), (12, 13)])
def test_sequence_header_of_av1(code, form):
    assert (av1_color(encoded("libsvtav1", code, form)) or (2, 2)) == code


def replaced(data: bytes, old: tuple[int, ...], new: tuple[int, ...]) -> bytes:
    """A file with other numbers of 8 bits each in a place that is not one of whole bytes."""
    before, after = (bin(int.from_bytes(bytes((1, *code))))[2:] for code in (old, new))
    bits = bin(int.from_bytes(b"\1" + data))[3:]
    assert bits.count(before) == 1
    return int(bits.replace(before, after), 2).to_bytes(len(data))


def avif(code: tuple[int, int], box: bool, **options) -> bytes:
    """An AVIF of Pillow's with a code in its image alone; its nclx is silent, or not there."""
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "avif", quality=100, subsampling="4:4:4", **options)
    data = replaced(file.getvalue(), (1, 13, 6), (*code, 6))
    return nclx(data, 2, 2) if box else data.replace(b"colrnclx", b"freenclx")


@pytest.mark.kept("coded-color")
@pytest.mark.parametrize("target", ["b.png", "b.avif"])
def test_colours_of_results(outcome, target):
    found = managed(outcome(avif((12, 13), True), target, lossless=True).path.read_bytes())
    np.testing.assert_allclose(found, shown(PATCHES, matrix=P3), atol=6)


@pytest.mark.parametrize("box", [True, False])
def test_colours_of_an_avif_that_only_its_image_names(box):
    data = avif((12, 13), box)
    np.testing.assert_allclose(managed(written(data, ".png")), shown(PATCHES, matrix=P3), atol=3)
    assert open_image(avif((9, 16), box)).notes[0].startswith("it is HDR (PQ)")
    assert "icc-profile-data" not in open_image(avif((1, 13), box)).metadata


def test_a_box_comes_before_the_image():
    data = nclx(avif((12, 13), True), 1, 13)
    assert "icc-profile-data" not in open_image(data).metadata


@pytest.mark.parametrize("box", [True, False])
def test_colours_of_a_heic_that_only_its_image_names(box):
    data = nclx(HEIC, 2, 2) if box else HEIC.replace(b"colrnclx", b"freenclx")
    np.testing.assert_allclose(managed(written(data, ".png")), shown(PATCHES, matrix=P3), atol=3)


def test_what_is_cut_says_nothing():
    stream = encoded("libx265", (9, 16), **{"x265-params": "log-level=none"})
    whole = configuration(stream)
    assert hevc_color(whole) == (9, 16)
    assert {hevc_color(whole[:end]) for end in range(0, len(whole), 3)} <= {None, (9, 16)}
    assert av1_color(b"") is None
    assert av1_color(b"\x0a\x7f") is None
