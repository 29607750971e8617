"""Kinds of TIFF that libvips does not read by itself, and kinds that are refused."""

import io

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.formats import tiff_image
from esrgan_jax.images.reader import OpenedImage, open_image
from esrgan_jax.imresize import imresize
from tests.test_bands import noise, tiff


def read(source: bytes) -> tuple[OpenedImage, np.ndarray]:
    image = open_image(source)
    return image, np.concatenate(list(image.rows()))


def with_tags(data: bytes, changes: dict[int, int]) -> bytes:
    """Returns a little-endian TIFF with changed values of {tag: value} with one number each."""
    data, start = bytearray(data), int.from_bytes(data[4:8], "little")
    for i in range(int.from_bytes(data[start : start + 2], "little")):
        at = start + 2 + 12 * i
        tag = int.from_bytes(data[at : at + 2], "little")
        if tag in changes:
            data[at + 8 : at + 10] = changes[tag].to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    "layout", [{}, {"rowsperstrip": 7}, {"tile": (32, 32)}, {"compression": 8}]
)
@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_planar_tiffs_are_read(order, big, dtype, layout, photometric):
    array = noise(70, 40, 3).astype(dtype) / dtype(255 if dtype == np.float32 else 1)
    planes = np.moveaxis(array, -1, 0).copy().astype(dtype)
    options = {"planarconfig": "separate", "photometric": photometric, **layout}
    if photometric == "minisblack":
        options["extrasamples"] = [0, 0]
    data = tiff(planes, bigtiff=big, byteorder=order, **options)
    pixels = read(data)[1]
    np.testing.assert_array_equal(pixels, array.astype(dtype))


@pytest.mark.parametrize("layout", [{}, {"compression": 8, "predictor": 2}, {"tile": (32, 32)}])
@pytest.mark.parametrize("order", ["<", ">"])
def test_float64_tiffs_are_read_as_float32(layout, order):
    array = np.random.default_rng(0).random((40, 30, 3))
    if "predictor" in layout:
        layout = {"compression": 8}
    image, pixels = read(tiff(array, photometric="rgb", byteorder=order, **layout))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(pixels, array.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("predictor", [1, 2])
def test_lzma_compressed_tiffs_are_read(dtype, predictor):
    array = noise(50, 40, 3, dtype=dtype)
    try:
        data = tiff(array, photometric="rgb", compression="lzma", predictor=predictor)
    except Exception:  # only imagecodecs can write it
        file = io.BytesIO()
        Image.fromarray(array[..., 0]).save(file, "tiff", compression="lzma")
        data, array = file.getvalue(), array[..., :1]
    icc = bytes(pyvips.Operation.call("profile_load", "p3"))
    np.testing.assert_array_equal(read(data)[1], array)
    file = io.BytesIO()
    rgb = noise(50, 40, 3)
    Image.fromarray(rgb).save(file, "tiff", compression="lzma", icc_profile=icc, dpi=(300, 150))
    image, pixels = read(file.getvalue())
    np.testing.assert_array_equal(pixels, rgb)
    assert image.metadata["icc-profile-data"][1] == icc
    assert image.resolution == pytest.approx((300 / 25.4, 150 / 25.4))


def lab(rgb: np.ndarray) -> np.ndarray:
    """Returns Lab values for D50, by littlecms."""
    image = pyvips.Image.new_from_array(rgb).copy(interpretation="srgb")
    return image.icc_import(input_profile="srgb", pcs="lab", intent="relative").numpy()


@pytest.mark.parametrize("layout", [{}, {"compression": 8, "tile": (32, 32)}])
@pytest.mark.parametrize("kind", ["cielab8", "icclab8", "cielab16", "icclab16", "float"])
def test_lab_tiffs_are_converted_to_srgb(kind, layout):
    y, x = np.mgrid[0:40, 0:50]
    rgb = np.dstack([x * 5, y * 6, (x + y) * 2]).astype(np.uint8)
    values = lab(rgb)
    light, color = values[..., :1], values[..., 1:]
    match kind:
        case "cielab8":
            samples = [np.rint(light * 2.55), np.rint(color) % 256]
        case "icclab8":
            samples = [np.rint(light * 2.55), np.rint(color) + 128]
        case "cielab16":
            samples = [np.rint(light * 655.35), np.rint(color * 256) % 65536]
        case "icclab16":
            samples = [np.rint(light * 652.8), np.rint(color * 256) + 32768]
        case _:
            samples = [light, color]
    dtype = np.float32 if kind == "float" else np.uint16 if "16" in kind else np.uint8
    array = np.dstack(samples).astype(dtype)
    photometric = "icclab" if "icc" in kind else "cielab"
    image, pixels = read(tiff(array, photometric=photometric, **layout))
    assert image.notes == ("Lab was converted to sRGB",)
    difference = abs(pixels / 257 - rgb)
    assert difference.mean() < (0.7 if "8" in kind else 0.1)
    assert difference.max() < (16 if "8" in kind else 1)  # Lab of 8 bits is coarse


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_ycbcr_tiffs_are_converted_to_rgb(compression):
    y, x = np.mgrid[0:40, 0:50]
    stored = Image.fromarray(np.dstack([x * 5, y * 6, (x + y) * 2]).astype(np.uint8))
    file = io.BytesIO()
    stored = stored.convert("YCbCr")
    stored.save(file, "tiff", compression=compression)
    image, pixels = read(file.getvalue())
    assert image.notes == ()
    difference = abs(pixels.astype(int) - np.asarray(stored.convert("RGB")))
    assert difference.max() <= (8 if compression == "jpeg" else 1)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_three_gray_samples_are_read_as_rgb(planes):
    array = noise(30, 20, 3)
    stored = array if planes == "contig" else np.moveaxis(array, -1, 0).copy()
    image, pixels = read(tiff(stored, photometric="minisblack", planarconfig=planes))
    assert (image.bands, image.frames) == (3, 1)
    np.testing.assert_array_equal(pixels, array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(noise(9, 9).astype(np.int8)), "its values are signed 8-bit integers; convert it"),
        (tiff(noise(9, 9).astype(np.int16)), "its values are signed 16-bit integers; convert it"),
        (tiff(noise(9, 9).astype(np.uint32)), "its values are 32-bit integers; convert it to unsi"),
        (tiff(noise(9, 9).astype(np.int64)), "its values are signed 64-bit integers"),
        (tiff(noise(9, 9).astype(np.complex64)), "its values are complex numbers; save their"),
        (tiff(noise(9, 9, 3), photometric="itulab"), "its colours are in the Lab encoding of fax"),
        (tiff(noise(9, 9, 3), photometric="logluv"), "its LogLuv colours do not have SGILog"),
        (with_tags(tiff(noise(9, 9)), {259: 50000}), "its compression is Zstandard; run pip inst"),
        (with_tags(tiff(noise(9, 9)), {259: 34712}), "its compression is JPEG 2000; run pip inst"),
        (with_tags(tiff(noise(9, 9)), {259: 50002}), "its compression is JPEG XL; run pip inst"),
        (with_tags(tiff(noise(9, 9)), {259: 34887}), "its compression is LERC; run pip install im"),
        (with_tags(tiff(noise(9, 9)), {259: 4711}), "its compression is number 4711; run pip inst"),
        (with_tags(tiff(noise(9, 9)), {258: 12}), "its values are packed in 12 bits each; run pip"),
        (
            with_tags(tiff(noise(9, 9) / 255), {259: 5}),
            "it has compressed 64-bit floats; run pip in",
        ),
    ],
)
def test_unsupported_kinds_are_refused_with_the_reason(data, message, monkeypatch):
    monkeypatch.setattr(tiff_image, "_has_codecs", lambda: False)
    with pytest.raises(InputError) as error:
        read(data)
    assert str(error.value).startswith(f"standard input: cannot be read as an image: {message}")


@pytest.mark.kept("tiff-kinds")
@pytest.mark.parametrize(
    "layout",
    [
        {"planarconfig": "separate"},
        {"tile": (16, 16)},
        {"bigtiff": True, "compression": 8},
        {"byteorder": ">", "planarconfig": "separate", "tile": (16, 16)},
    ],
)
def test_tiffs_of_all_layouts_are_upscaled(outcome, layout):
    rgb = 2000 + np.mgrid[0:24, 0:20, 0:3].sum(0).astype(np.uint16) * 900
    file, options = io.BytesIO(), dict(layout)
    planar = options.get("planarconfig") == "separate"
    kind = {k: options.pop(k) for k in ("bigtiff", "byteorder") if k in options}
    with tifffile.TiffWriter(file, **kind) as writer:
        writer.write(np.moveaxis(rgb, 2, 0) if planar else rgb, photometric="rgb", **options)
    found = np.concatenate(list(open_image(outcome(file.getvalue(), "b.tif").path).rows()))
    expected = imresize(rgb / 65535, 2) * 65535
    np.testing.assert_allclose(found, expected, atol=1)
