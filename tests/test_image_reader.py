"""Reading image files of all formats: pixels, depth, orientation, notes and errors."""

import base64
import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import pyvips
import skimage.data
import tifffile
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.images.reader import OpenedImage, open_image
from esrgan_jax.images.writer import write_rows

# 32x24 pixels of 10 bits in HEVC, made with heif-enc from `HEIC_PIXELS`.
HEIC = base64.b64decode("""
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAeVtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAA
AAAAAA5waXRtAAAAAAACAAAAEGlkYXQAAAAAACAAGAAAAExpbG9jAQAAAERAAAMAAQAAAAAAAAIJAAEAAAAAAAABDQACAAEA
AAAAAAAAAQAAAAAAAAAIAAMAAAAAAAADFgABAAAAAAAAALgAAABNaWluZgAAAAAAAwAAABVpbmZlAgAAAQABAABodmMxAAAA
ABVpbmZlAgAAAAACAABncmlkAAAAABVpbmZlAgAAAQADAABFeGlmAAAAANlpcHJwAAAAt2lwY28AAAB3aHZjQwEECAAAAAAA
AAAAAB7wAPz/+voAAA8DIAABABdAAQwB//8ECAAAAwCcOAAAAwAAHroCQCEAAQAqQgEBBAgAAAMAnDgAAAMAAB6QBBAgmy3V
XTXNwICBgQAAAwABAAADAAEIIgABAAhEAcFzGDAYkAAAABRpc3BlAAAAAAAAAEAAAABAAAAAFGlzcGUAAAAAAAAAIAAAABgA
AAAQcGl4aQAAAAADCgoKAAAAGmlwbWEAAAAAAAAAAgABAoECAAICA4QAAAAoaXJlZgAAAAAAAAAOZGltZwACAAEAAQAAAA5j
ZHNjAAMAAQACAAABzW1kYXQAAAEJKAGvBrIfpnMwkarirw/c6h1wE54iBF/8E/O9Z3FV4eYmoxFUyKCPPH3ywz3LVu6d9lHe
ynbd2Llb22IdT3H+6SmQrwHBvokh9iZLXuTKyJAbwc06CVFdFEn/H8CCy6R7xsM6vIWX01iOW72Nb+AJGtNzKeP/OHm7BN/n
f/6AY/h2bSl2Z30p9jyLtlHlgJ1ILaBPD6+DEHk5zZvKDy+zAGEUrH2tJaT3174/BdG6uujYT8t10a3qVTKoHvI4Z+Y+Yrto
k3+P3P7iutoHsizU8NZGIKRHNIxRP6Xv9hezyygZLTakn/R3Ke7F52AbEz8c5MptzMCY+Uu7Fm3VLOPfQHfPxPh+9UDW/wAA
AABJSSoACAAAAAYAEgEDAAEAAAABAAAAGgEFAAEAAABWAAAAGwEFAAEAAABeAAAAKAEDAAEAAAACAAAAEwIDAAEAAAABAAAA
aYcEAAEAAABmAAAAAAAAADhjAADoAwAAOGMAAOgDAAAGAACQBwAEAAAAMDIxMAGRBwAEAAAAAQIDAACgBwAEAAAAMDEwMAGg
AwABAAAA//8AAAKgBAABAAAAIAAAAAOgBAABAAAAGAAAAAAAAAA=
""")
_y, _x = np.mgrid[0:24, 0:32]
HEIC_PIXELS = np.stack([_x * 2000, _y * 2600, (_x + _y) * 1100], -1)


def read(source: Path | bytes) -> tuple[OpenedImage, np.ndarray]:
    """Returns an opened image and all its rows; frames follow each other."""
    image = open_image(source)
    strips = list(image.rows())
    assert all(s.shape[1:] == (image.width, image.bands) for s in strips)
    assert all(s.dtype == image.dtype and len(s) for s in strips)
    array = np.concatenate(strips)
    assert len(array) == image.height * image.frames
    return image, array


def encoded(array: np.ndarray, kind: str, mode: str | None = None, **options) -> bytes:
    """Returns a file encoded by Pillow."""
    file = io.BytesIO()
    Image.fromarray(array, mode).save(file, kind, **options)
    return file.getvalue()


def tiff(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def noise(rng, *shape: int, dtype=np.uint8) -> np.ndarray:
    return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


SIZES = [(1, 1), (1, 7), (7, 1), (65, 33), (200, 31)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["png", "tiff", "webp", "bmp", "ppm"])
def test_eight_bit_images_of_lossless_formats_are_read_exactly(rng, size, kind):
    rgb = noise(rng, *size, 3)
    modes = {
        "png": ("L", "LA", "RGB", "RGBA"),
        "tiff": ("L", "LA", "RGB", "RGBA"),
        "webp": ("RGB", "RGBA"),
        "bmp": ("L", "RGB"),
        "ppm": ("L", "RGB"),
    }[kind]
    for mode in modes:
        array = np.asarray(Image.fromarray(rgb).convert(mode)).copy()
        if mode in ("LA", "RGBA"):
            array[..., -1] = noise(rng, *size)
        options = {"lossless": True, "exact": True} if kind == "webp" else {}
        image, pixels = read(encoded(array, kind, **options))
        assert (image.dtype, image.frames, image.notes) == (np.uint8, 1, ())
        np.testing.assert_array_equal(pixels, np.atleast_3d(array.reshape(*size, -1)), mode)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("dark", [False, True])
def test_sixteen_bit_files_are_read_as_uint16(rng, bands, dark):
    array = noise(rng, 70, 9, bands, dtype=np.uint16) // (400 if dark else 1)
    stored = pyvips.Image.new_from_array(array, interpretation="rgb16" if bands > 2 else "grey16")
    for data in (stored.pngsave_buffer(), stored.tiffsave_buffer()):
        image, pixels = read(data)
        assert image.dtype == np.uint16
        np.testing.assert_array_equal(pixels, array)


def test_one_bit_and_palette_images_are_read(rng):
    bits = rng.random((20, 9)) < 0.5
    indices = noise(rng, 20, 9) % 4
    palette = noise(rng, 4, 3)
    for kind in ("png", "tiff", "bmp", "ppm"):
        np.testing.assert_array_equal(read(encoded(bits, kind))[1][..., 0], bits * 255, kind)
    for kind in ("png", "tiff", "bmp", "gif"):
        stored = Image.fromarray(indices, "P")
        stored.putpalette(palette.tobytes())
        file = io.BytesIO()
        stored.save(file, kind)
        np.testing.assert_array_equal(read(file.getvalue())[1], palette[indices], kind)
    file = io.BytesIO()
    stored.save(file, "png", transparency=2)
    image, pixels = read(file.getvalue())
    assert image.bands == 4
    np.testing.assert_array_equal(pixels[..., 3], np.where(indices == 2, 0, 255))


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (64, 64)},
        {"tile": (256, 256), "compression": "zlib"},
        {"rowsperstrip": 1},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"extratags": [(65000, "H", 1, 7, True)]},  # libtiff warns about unknown tags
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_all_layouts_of_tiff_are_read_exactly(rng, options, dtype):
    array = rng.random((150, 70, 3)).astype(np.float32)
    if dtype != np.float32:
        array = (array * np.iinfo(dtype).max).astype(dtype)
    image, pixels = read(tiff(array, photometric="rgb", **options))
    assert (image.dtype, image.notes) == (dtype, ())
    np.testing.assert_array_equal(pixels, array)


def test_planar_half_float_and_multipage_tiffs_are_read(rng):
    array = noise(rng, 30, 20, 3)
    planar = tiff(np.moveaxis(array, -1, 0).copy(), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read(planar)[1], array)
    half = rng.random((30, 20)).astype(np.float16)
    image, pixels = read(tiff(half))
    assert image.dtype == np.float32
    np.testing.assert_array_equal(pixels[..., 0], half)
    pages, _ = read(Path(skimage.data.__file__).with_name("multipage.tif"))
    assert pages.notes == ("only the first of the 2 images in the file is used",)


@pytest.mark.parametrize(
    ("low", "high", "white", "notes"),
    [
        (0, 0.9, 1, []),
        (-0.25, 1, 1, [r"values below 0 \(down to -0.25\) are taken as 0"]),
        (0, 4, 4, ["its values go up to 4; 4 is taken as white"]),
        (0, 200, 255, ["its values go up to 200; 255 is taken as white"]),
        (0, 60000, 65535, ["its values go up to 60000; 65535 is taken as white"]),
        (0, 1e6, 1e6, [r"its values go up to 1e\+06; 1e\+06 is taken as white"]),
    ],
)
def test_floats_are_divided_by_their_white_level(rng, low, high, white, notes):
    array = rng.uniform(low, high, (80, 9)).astype(np.float32)
    array[0, 0], array[-1, -1] = low, high
    image, pixels = read(tiff(array))
    assert image.white == white
    np.testing.assert_allclose(pixels[..., 0], np.clip(array / white, 0, 1), rtol=1e-6)
    assert len(image.notes) == len(notes)
    assert all(map(re.fullmatch, notes, image.notes))


@pytest.mark.parametrize(("color", "alpha"), [(12, 1), (0.5, 255), (300, 0.5)])
def test_floating_alpha_has_a_range_of_its_own(rng, tmp_path, color, alpha):
    array = rng.uniform(0, 1, (80, 9, 4)).astype(np.float32)
    array[0, 0] = 1
    array[..., :3] *= color
    array[..., 3] *= alpha
    image, pixels = read(tiff(array, photometric="rgb", extrasamples=["unassalpha"]))
    assert pixels[0, 0, 3] == (0.5 if alpha == 0.5 else 1)
    assert pixels[0, 0, 0] == (0.5 if color == 0.5 else np.float32(color / image.white))
    rows = [pixels.reshape(80, 9, 4)]
    write_rows(tmp_path / "a.tif", rows, height=80, width=9, bands=4, dtype=np.float32, like=image)
    stored = pyvips.Image.new_from_file(tmp_path / "a.tif").numpy()
    np.testing.assert_allclose(stored, array, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinite_values_are_refused(value):
    with pytest.raises(InputError, match="infinite or not a number"):
        open_image(tiff(np.full((3, 4), value, np.float32)))


@pytest.mark.parametrize("kind", range(1, 7))
@pytest.mark.parametrize("white", [255, 100, 65535, 1000])
def test_pnm_files_are_read_and_truncated_ones_refused(tmp_path, rng, kind, white):
    bands = 3 if kind in (3, 6) else 1
    white = 1 if kind in (1, 4) else white
    array = rng.integers(0, white + 1, (70, 13, bands))
    header = f"P{kind}\n# made by a test\n13 70\n" + (f"{white}\n" if white > 1 else "")
    if kind == 4:
        body = np.packbits(1 - array[..., 0], axis=1).tobytes()
    elif kind > 4:
        body = array.astype(">u2" if white > 255 else "u1").tobytes()
    else:
        body = " ".join(map(str, (1 - array if kind == 1 else array).ravel())).encode()
    path = tmp_path / "a.pnm"
    path.write_bytes(header.encode() + body)
    top = 65535 if white > 255 else 255
    for source in (path, path.read_bytes()):
        image, pixels = read(source)
        assert image.dtype == (np.uint16 if white > 255 else np.uint8)
        np.testing.assert_array_equal(pixels, np.rint(array * (top / white)))
    path.write_bytes(header.encode() + body[: len(body) // 2])
    with pytest.raises(InputError, match=r"a\.pnm: cannot be read as an image: it is truncated"):
        read(path)


def oriented(array: np.ndarray, orientation: int) -> np.ndarray:
    """Returns an image as it is displayed for an EXIF orientation."""
    return {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.swapaxes(0, 1),
        6: np.rot90(array, -1),
        7: array[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(array, 1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
def test_every_exif_orientation_is_applied(rng, orientation, kind):
    exif = Image.Exif()
    exif[0x112] = orientation
    array = noise(rng, 150, 80, 3)
    options = {"lossless": True} if kind == "webp" else {}
    image, pixels = read(encoded(array, kind, exif=exif, **options))
    expected = oriented(array, orientation)
    assert (image.height, image.width) == expected.shape[:2]
    np.testing.assert_array_equal(pixels, expected)
    assert not any("rientation" in name for name in image.metadata)
    np.testing.assert_array_equal(
        np.concatenate(list(image.rows())), expected
    )  # rows can be read again


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_all_frames_of_animations_are_read(rng, kind, orientation):
    frames = [noise(rng, 90, 30, 3) // 128 * 255 for _ in range(3)]
    first, *others = [Image.fromarray(frame) for frame in frames]
    exif = Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    options = {"lossless": True, "exif": exif} if kind == "webp" else {}
    times = {"duration": [100, 200, 50], "loop": 0}
    first.save(file, kind, save_all=True, append_images=others, **times, **options)
    image, pixels = read(file.getvalue())
    applied = orientation if kind == "webp" else 1
    expected = np.concatenate([oriented(frame, applied) for frame in frames])
    assert (image.frames, image.height) == (3, len(expected) // 3)
    np.testing.assert_array_equal(pixels[..., :3], expected)
    assert image.metadata["delay"][1] == [100, 200, 50]
    assert image.metadata["loop"][1] == 0


def test_only_the_first_frame_of_an_animated_png_is_read(rng):
    images = [Image.fromarray(noise(rng, 9, 9, 3)) for _ in range(2)]
    file = io.BytesIO()
    images[0].save(file, "png", save_all=True, append_images=images[1:])
    image, pixels = read(file.getvalue())
    assert image.notes == ("only the first frame of the animated PNG is used",)
    np.testing.assert_array_equal(pixels, images[0])


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize("kind", ["jpeg", "tiff"])
def test_cmyk_is_converted_with_a_note(kind, profile):
    gray = np.full((90, 16, 3), 128, np.uint8)
    cmyk = np.asarray(Image.fromarray(gray).convert("CMYK"))
    icc = pyvips.Operation.call("profile_load", "cmyk") if profile else None
    image, pixels = read(encoded(cmyk, kind, "CMYK", icc_profile=icc))
    how = " by its colour profile" if profile else ""
    assert image.notes == (f"CMYK was converted to sRGB{how}",)
    assert image.bands == 3
    assert "icc-profile-data" not in image.metadata
    assert np.ptp(pixels.astype(int), axis=-1).max() < 20
    assert 80 < pixels.mean() < 180


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_a_deep_avif_is_65535(bits):
    array = np.full((9, 9, 3), 65535, np.uint16)
    stored = pyvips.Image.new_from_array(array, interpretation="rgb16")
    image, pixels = read(stored.heifsave_buffer(compression="av1", bitdepth=bits, lossless=True))
    assert image.dtype == np.uint16
    assert (pixels == 65535).all()


def test_ten_bit_heic_is_read(tmp_path):
    pytest.importorskip("pi_heif")
    (tmp_path / "a.heic").write_bytes(HEIC)
    for source in (HEIC, tmp_path / "a.heic"):
        image, pixels = read(source)
        assert (image.dtype, image.bands) == (np.uint16, 3)
        assert abs(pixels - HEIC_PIXELS).max() < 700
        assert "exif-ifd0-XResolution" in image.metadata
    with pytest.raises(InputError, match="cannot be read"):
        read(HEIC[:700])


def test_the_format_is_detected_from_the_content(tmp_path, rng):
    array = noise(rng, 20, 20, 3)
    for kind, name in {"png": "a.jpg", "tiff": "a.png", "bmp": "a", "ppm": "a.bmp"}.items():
        (tmp_path / name).write_bytes(encoded(array, kind))
        np.testing.assert_array_equal(read(tmp_path / name)[1], array)


FILES = ["png", "jpeg", "webp", "tiff", "bmp", "ppm", "gif", "interlaced", "tiles", "avif", "video"]
FILES += ["planes", "lab", "lzma", "doubles"]  # TIFFs that libvips does not read by itself


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """Returns {kind: file of noise}."""
    array = noise(np.random.default_rng(0), 200, 200, 3)
    image = pyvips.Image.new_from_array(array, interpretation="srgb")
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - array)]}
    return {
        **{kind: encoded(array, kind) for kind in FILES[:7]},
        "interlaced": image.pngsave_buffer(interlace=True),
        "tiles": tiff(array, tile=(64, 64), compression="zlib", photometric="rgb"),
        "avif": image.heifsave_buffer(compression="av1", effort=0),
        "video": encoded(array, "gif", **frames),
        "planes": tiff(
            np.moveaxis(array, -1, 0).copy(),
            photometric="minisblack",
            planarconfig="separate",
            rowsperstrip=32,
        ),
        "lab": tiff(array, photometric="cielab", rowsperstrip=32),
        "lzma": encoded(array, "tiff", compression="lzma"),
        "doubles": tiff(array / 255, photometric="rgb", rowsperstrip=32),
    }


@pytest.mark.parametrize("part", [0.02, 0.4, 0.9])
@pytest.mark.parametrize("kind", FILES)
def test_truncated_files_are_refused_and_nothing_is_printed(tmp_path, files, kind, part, capfd):
    data, path = files[kind], tmp_path / "half"
    read(data)
    path.write_bytes(data[: int(part * len(data))])
    for source, name in ((path, "half"), (path.read_bytes(), "standard input")):
        with pytest.raises(InputError, match=rf"{name}: cannot be read as an image: \w+"):
            read(source)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "kind", ["png", "interlaced", "jpeg", "webp", "tiff", "avif", "lzma", "gif"]
)
def test_the_error_says_that_a_file_is_truncated(files, kind):
    with pytest.raises(InputError, match=r"it is (truncated|cut off)|its pixels are .* cut off"):
        read(files[kind][: len(files[kind]) * 2 // 5])


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_raise_only_input_errors(files, kind):
    for seed in range(12):
        damage, data = np.random.default_rng(seed), bytearray(files[kind])
        for place in damage.integers(0, len(data) if seed % 2 else 200, 4):
            data[place] ^= int(damage.integers(1, 256))
        try:
            image = open_image(bytes(data))
            if image.height * image.width < 1e6:
                sum(map(len, image.rows()))
        except InputError:
            pass


@pytest.mark.parametrize("content", [b"", b"no image", b'<svg width="9" height="9"/>', b"BM"])
def test_files_that_are_not_images_are_refused(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png: cannot be read as an image: \w+"):
        open_image(tmp_path / "a.png")
    with pytest.raises(InputError, match="no such file"):
        open_image(tmp_path / "b.png")
    with pytest.raises(InputError, match="it is a folder"):
        open_image(tmp_path)


def test_a_file_deleted_after_opening_is_an_error(tmp_path, files):
    (tmp_path / "a.png").write_bytes(files["png"])
    image = open_image(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png: cannot be read"):
        list(image.rows())


def test_photographs_of_scikit_image_are_read_as_by_pillow():
    folder = Path(skimage.data.__file__).parent
    paths = [p for p in folder.iterdir() if p.suffix in (".png", ".jpg", ".gif")]
    assert len(paths) > 20
    for path in paths:
        image, pixels = read(path)
        with Image.open(path) as stored:
            mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[image.bands]
            expected = np.atleast_3d(np.asarray(stored.convert(mode)))
        if image.dtype == np.uint16:
            pixels = pixels >> 8
        error = abs(pixels[: image.height].astype(int) - expected)
        assert error.max() <= (3 if path.suffix == ".jpg" else 0), path


def test_photographs_of_the_real_data_are_read_as_by_pillow(shared_data):
    paths = sorted(shared_data.glob("photos/bsds500/test/*.jpg"))[:5]
    paths += sorted(shared_data.rglob("set5/**/*.png"))[:5]
    assert paths
    for path in paths:
        image, pixels = read(path)
        with Image.open(path) as stored:
            assert stored.size == (image.width, image.height)
            assert abs(pixels.mean() - np.asarray(stored).mean()) < 1


def bmp_v5(pixels: bytes, profile: bytes) -> bytes:
    """Returns a BMP of 2x2 pixels with 300 dpi and a colour profile after its pixels."""
    per_metre = round(300 / 0.0254)
    header = struct.pack(
        "<IiiHHIIiiII", 124, 2, 2, 1, 24, 0, len(pixels), per_metre, per_metre, 0, 0
    )
    header += struct.pack("<4I4s", 0, 0, 0, 0, b"DEBM") + bytes(36 + 12)
    header += struct.pack("<4I", 0, 124 + len(pixels), len(profile), 0)
    size = 14 + len(header) + len(pixels) + len(profile)
    start = struct.pack("<2sIII", b"BM", size, 0, 14 + len(header))
    return start + header + pixels + profile


def test_resolution_and_profile_of_a_bmp_are_read():
    profile = bytes(pyvips.Operation.call("profile_load", "p3"))
    rows = bytes([1, 2, 3, 4, 5, 6, 0, 0]) + bytes([7, 8, 9, 10, 11, 12, 0, 0])  # BGR, bottom up
    image, array = read(bmp_v5(rows, profile))
    np.testing.assert_array_equal(array, [[[9, 8, 7], [12, 11, 10]], [[3, 2, 1], [6, 5, 4]]])
    assert image.metadata["icc-profile-data"][1] == profile
    assert image.resolution == pytest.approx((300 / 25.4, 300 / 25.4), rel=1e-4)
    plain, _ = read(bmp_v5(rows, b""))
    assert not plain.metadata


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"P2 2 1 255 300 7", "it contains 300, and its header has a maximum of 255"),
        (b"P2 2 1 255 -5 7", "its pixels contain '-5'"),
        (b"P2 2 1 255 abc 7", "its pixels contain 'abc'"),
        (b"P2 2 1 255 99999999999999999999 7", "its pixels contain '9999"),
        (b"P5 2 1 100 \x65\x07", "it contains 101, and its header has a maximum of 100"),
    ],
)
def test_numbers_that_a_pnm_cannot_have_are_refused(tmp_path, text, message):
    (tmp_path / "a.pgm").write_bytes(text)
    with pytest.raises(InputError, match=re.escape(message)):
        list(open_image(tmp_path / "a.pgm").rows())
