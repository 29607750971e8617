"""Extra bands, premultiplied alpha, no-data values and georeferences of TIFF images."""

import io
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.lost import lost
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows
from esrgan_jax.imresize import imresize

SCALE, TIES, MATRIX, KEYS, DOUBLES, TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
METADATA, NODATA, RPC = 42112, 42113, 50844
AREA = (1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, 1)
POINT = (1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, 2)


def tiff(array: np.ndarray, tags=(), **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, extratags=list(tags), **options)
    return file.getvalue()


def doubles(tag: int, *values: float) -> tuple:
    return tag, 12, len(values), values, True


def geo(keys=AREA, nodata: str | None = None) -> list[tuple]:
    tags = [
        doubles(SCALE, 10.0, 20.0, 0.0),
        doubles(TIES, 1.0, 2.0, 0.0, 500000.0, 4600000.0, 0.0),
        (KEYS, 3, len(keys), keys, True),
        (TEXTS, 2, 7, "WGS 84|", True),
    ]
    return tags + ([(NODATA, 2, len(nodata) + 1, nodata, True)] if nodata is not None else [])


def noise(*shape: int, dtype: np.typing.DTypeLike = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def samples(data: bytes) -> np.ndarray:
    """Returns all samples of a TIFF as stored in the file."""
    return pyvips.Image.tiffload_buffer(data).numpy()


def frames(data: bytes) -> np.ndarray:
    """Returns the frames of an image: (frames, H, W, bands)."""
    image = open_image(data)
    pixels = np.concatenate(list(image.rows()))
    return pixels.reshape(image.frames, image.height, image.width, image.bands)


def doubled(data: bytes, suffix: str = ".tif", dtype: np.typing.DTypeLike | None = None) -> bytes:
    """Returns the file of the image at twice the size, every pixel repeated."""
    image, stream = open_image(data), io.BytesIO()
    big = frames(data).repeat(2, 1).repeat(2, 2)
    if dtype is not None:
        big = big.astype(dtype)
    write_rows(
        stream,
        (strip for one in big for strip in (one[:5], one[5:])),
        height=big.shape[1],
        width=big.shape[2],
        bands=big.shape[3],
        dtype=big.dtype,
        frames=len(big),
        suffix=suffix,
        like=image,
    )
    return stream.getvalue()


EXTRAS = [
    ("rgb", 4, [0]),
    ("rgb", 4, [2]),
    ("rgb", 5, [0, 2]),
    ("rgb", 6, [2, 0, 0]),
    ("minisblack", 2, [0]),
    ("minisblack", 2, [2]),
    ("minisblack", 4, [0, 0, 2]),
    ("minisblack", 13, [0] * 12),
]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("photometric", "count", "extra"), EXTRAS)
def test_extra_bands_are_read_as_frames_and_written_back(photometric, count, extra, planar, dtype):
    array = noise(20, 30, count).astype(dtype) / dtype(255 if dtype == np.float32 else 1)
    array = array.astype(dtype)
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0).copy()
    data = tiff(stored, photometric=photometric, extrasamples=extra, planarconfig=planar)
    image, found = open_image(data), frames(data)
    colors = count - len(extra)
    assert image.bands == colors + (2 in extra)
    assert image.frames == 1 + extra.count(0)
    assert image.notes == ()
    np.testing.assert_array_equal(found[0, ..., :colors], array[..., :colors])
    extra_bands = [i for i in range(colors, count) if extra[i - colors] == 0]
    for one, i in zip(found[1:], extra_bands, strict=True):
        np.testing.assert_array_equal(one[..., :colors], array[..., [i] * colors])
    if 2 in extra:
        alpha = colors + extra.index(2)
        assert (found[..., -1] == array[..., alpha]).all()
    result = doubled(data)
    with tifffile.TiffFile(io.BytesIO(result)) as file:
        page = file.pages[0]
        assert [int(kind) for kind in page.tags[338].value] == extra
        assert page.photometric.name == photometric.upper()
    np.testing.assert_array_equal(samples(result), array.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(frames(result), found.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_premultiplied_colours_are_divided_by_alpha(dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    color = np.array([0.2, 0.5, 0.9]) * np.ones((8, 9, 1))
    alpha = np.linspace(0.1, 1, 9)[None, :, None] * np.ones((8, 1, 1))
    array = np.concatenate([color * alpha, alpha], -1) * top
    array = array.astype(np.float32) if dtype == np.float32 else np.rint(array).astype(dtype)
    found = frames(tiff(array, photometric="rgb", extrasamples=[1]))[0] / top
    np.testing.assert_allclose(found[..., 3:], alpha, atol=0.003)
    np.testing.assert_allclose(found[..., :3], color, atol=0.025 if dtype == np.uint8 else 0.001)


def test_extra_bands_are_refused_by_other_formats():
    data = tiff(noise(8, 9, 4), photometric="rgb", extrasamples=[0])
    message = "holds only colour and transparency, and this image has 1 further band; choose .tif"
    for suffix in (".png", ".jpg", ".webp", ".avif", ".gif"):
        with pytest.raises(InputError, match=f"{suffix} {message}"):
            doubled(data, suffix)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("keys", [AREA, POINT])
def test_a_georeference_is_scaled_with_the_image(order, big, keys):
    matrix = (10.0, 1.0, 0.0, 5e5, 2.0, -20.0, 0.0, 46e5, *(0.0,) * 7, 1.0)
    statistics = (
        '<GDALMetadata>\n<Item name="STATISTICS_MAXIMUM" sample="0">9</Item>\n'
        '<Item name="area">north</Item>\n</GDALMetadata>'
    )
    rpc = (0.0, 0.0, 10.0, 20.0, 1.0, 2.0, 3.0, 40.0, 50.0, *range(83))
    more = [
        doubles(MATRIX, *matrix),
        (METADATA, 2, len(statistics) + 1, statistics, True),
        doubles(RPC, *rpc),
        doubles(DOUBLES, 6378137.0, 298.257223563),
    ]
    array = noise(20, 30, 3)
    data = tiff(array, [*geo(keys), *more], photometric="rgb", bigtiff=big, byteorder=order)
    with tifffile.TiffFile(io.BytesIO(doubled(data))) as file:
        tags = file.pages[0].tags
        np.testing.assert_array_equal(file.asarray(), array.repeat(2, 0).repeat(2, 1))
    assert tags[SCALE].value == (5.0, 10.0, 0.0)
    half = 0.5 if keys is POINT else 0
    tie = tags[TIES].value
    # Tie points keep their place: (pixel + half) doubles from the source to the result.
    assert tie[:2] == ((1 + half) * 2 - half, (2 + half) * 2 - half)
    assert tie[3:] == (500000.0, 4600000.0, 0.0)
    after = np.array(tags[MATRIX].value).reshape(4, 4)
    before = np.array(matrix).reshape(4, 4)
    for x, y in ((0, 0), (7.25, 3.5)):  # in source pixels from the upper left corner
        expected = before @ [x - half, y - half, 0, 1]
        np.testing.assert_allclose(after @ [2 * x - half, 2 * y - half, 0, 1], expected)
    assert tuple(tags[KEYS].value) == keys
    assert tags[TEXTS].value == "WGS 84|"
    assert tags[DOUBLES].value == (6378137.0, 298.257223563)
    assert tags[METADATA].value == '<GDALMetadata>\n<Item name="area">north</Item>\n</GDALMetadata>'
    assert tags[RPC].value[2:4] == (20.5, 40.5)
    assert tags[RPC].value[7:9] == (80.0, 100.0)
    assert tags[RPC].value[9:] == tuple(range(83))


def test_dropping_a_georeference_is_noted():
    image = open_image(tiff(noise(8, 9), geo()))
    assert lost(image, ".png") == ("its georeference has no place in .png and is dropped",)
    assert lost(image, ".tif") == ()


NODATA_VALUES = [
    (np.uint8, "0", 0),
    (np.uint8, "255", 255),
    (np.uint16, "7", 7),
    (np.float32, "-9999", -9999),
    (np.float32, "nan", np.nan),
    (np.float32, "-3.4028234663852886e+38", np.finfo(np.float32).min),
]


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize(("dtype", "text", "value"), NODATA_VALUES)
def test_nodata_pixels_are_transparent_and_stay_nodata(dtype, text, value, count):
    array = noise(20, 30, count).astype(dtype) % 200 + dtype(9)
    if dtype == np.float32:
        array = array / dtype(255)
    hole = np.zeros((20, 30), bool)
    hole[5:12, 8:20] = True
    array[hole] = value
    photometric = {"photometric": "minisblack" if count == 1 else "rgb"}
    if count > 3:
        photometric["extrasamples"] = [0, 0]
    array = array[..., 0] if count == 1 else array
    data = tiff(array, geo(nodata=text), **photometric)
    image = open_image(data)
    assert image.notes == ()
    colors = min(count, 3)
    assert image.bands == colors + 1
    # The hole is transparent, and its hidden values are not extreme, which would spoil its border.
    for one in frames(data):
        top = 1 if dtype == np.float32 else np.iinfo(dtype).max
        np.testing.assert_array_equal(one[..., -1], np.where(hole, 0, top))
        assert (one[..., :-1] >= 0).all()
    with tifffile.TiffFile(io.BytesIO(doubled(data))) as file:
        assert file.pages[0].tags[NODATA].value == text
    np.testing.assert_array_equal(samples(doubled(data)), array.repeat(2, 0).repeat(2, 1))


def test_opaque_results_equal_to_nodata_are_changed_by_one():
    array = np.full((8, 9, 3), 100, np.uint8)
    array[:4] = 0
    data = tiff(array, geo(nodata="0"), photometric="rgb")
    image, stream = open_image(data), io.BytesIO()
    result = np.zeros((8, 9, 4), np.uint8)
    result[4:, ..., 3] = 255  # opaque black pixels
    write_rows(
        stream, [result], height=8, width=9, bands=4, dtype=np.uint8, suffix=".tif", like=image
    )
    found = tifffile.imread(io.BytesIO(stream.getvalue()))
    assert (found[:4] == 0).all()
    assert (found[4:] == 1).all()


@pytest.mark.parametrize("nodata", ["-9999", "300", "1.5", "no number", "12"])
def test_an_impossible_or_unused_nodata_value_is_ignored(nodata):
    data = tiff(np.full((8, 9, 3), 100, np.uint8), geo(nodata=nodata), photometric="rgb")
    assert open_image(data).bands == 3
    doubled(data, ".jpg")


def test_nodata_pixels_are_transparent_in_a_png(tmp_path):
    array = noise(8, 9, 3) // 2 + 1
    array[2:4] = 0
    result = doubled(tiff(array, geo(nodata="0"), photometric="rgb"), ".png")
    with Image.open(io.BytesIO(result)) as image:
        alpha = np.asarray(image)[..., 3]
    assert (alpha[4:8] == 0).all()
    assert (alpha[:4] == 255).all()


ramp = (20 + np.mgrid[0:24, 0:20][0] * 9).astype(np.uint8)


@pytest.mark.kept("bands")
@pytest.mark.parametrize("extra", [[0], [0, 2], [0, 0]])
def test_extra_bands_are_upscaled(outcome, extra):
    array = np.dstack([ramp, ramp, ramp, 255 - ramp, ramp // 2][: 3 + len(extra)])
    found = tifffile.imread(
        outcome(tiff(array, photometric="rgb", extrasamples=extra), "b.tif").path
    )
    shape = (48, 40, 3 + len(extra))
    assert found.shape == shape
    expected = imresize(array / 255, 2) * 255
    kept = slice(0, 4) if 2 in extra else slice(None)  # the colours under alpha are not bicubic
    np.testing.assert_allclose(found[8:-8, 8:-8, kept], expected[8:-8, 8:-8, kept], atol=1.01)


@pytest.mark.kept("bands-png")
def test_an_image_with_extra_bands_is_refused_for_a_png(outcome):
    outcome(tiff(np.dstack([ramp] * 4), photometric="rgb", extrasamples=[0]))


@pytest.mark.kept("geotiff")
def test_a_geotiff_keeps_its_georeference_and_nodata(outcome):
    array = np.dstack([ramp] * 3)
    array[6:12] = 0
    data = tiff(array, geo(nodata="0"), photometric="rgb")
    with tifffile.TiffFile(outcome(data, "b.tif").path) as file:
        tags, found = file.pages[0].tags, file.asarray()
        assert tags[SCALE].value == (5.0, 10.0, 0.0)
        assert tags[TIES].value[:2] == (2.0, 4.0)
    assert (found[12:24] == 0).all()
    assert (found[:12] > 0).all()
    # The hole does not darken the values next to it.
    np.testing.assert_allclose(found[8:12, :, 0].mean(1), [54, 58, 62, 66], atol=6)
    assert (found[24:28, :, 0] > 120).all()


@pytest.mark.kept("geotiff-png")
def test_nodata_of_a_geotiff_becomes_alpha_in_a_png(outcome):
    array = np.dstack([ramp] * 3)
    array[6:12] = 0
    result = outcome(tiff(array, geo(nodata="0"), photometric="rgb"))
    with Image.open(Path(result.path)) as image:
        alpha = np.asarray(image)[..., 3]
    assert (alpha[14:22] == 0).all()
    assert (alpha[26:] == 255).all()
