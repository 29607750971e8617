"""Writing image files of all formats: pixels, depth, metadata, limits and errors."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import pyvips
import skimage.data
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images import writer as image_writer
from esrgan_jax.images.lost import lost
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import check_target, output_dtype, write_rows

SOFTWARE = "esrgan_jax 0.1.0, RRDB (x4) sha256:0123"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
IPTC = b"\x1c\x02\x19\x00\x03key"
EXIF, GPS = 0x8769, 0x8825


def noise(rng, *shape: int, dtype: np.typing.DTypeLike = np.uint8) -> np.ndarray:
    if dtype == np.float32:
        return rng.random(shape, np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def write(target, array: np.ndarray, frames: int = 1, rows: int = 37, **options) -> None:
    """Writes an array in strips of `rows` rows."""
    height, width, bands = array.shape
    write_rows(
        target,
        (array[y : y + rows] for y in range(0, height, rows)),
        height=height // frames,
        width=width,
        bands=bands,
        dtype=array.dtype,
        frames=frames,
        **options,
    )


def read(source: Path | bytes) -> np.ndarray:
    return np.concatenate(list(open_image(source).rows()))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (41, 33), (300, 1000)])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".png", np.uint8),
        (".png", np.uint16),
        (".tif", np.uint8),
        (".tiff", np.uint16),
        (".tif", np.float32),
        (".webp", np.uint8),
        (".avif", np.uint8),
    ],
)
def test_lossless_formats_keep_every_pixel(tmp_path, rng, suffix, dtype, bands, size):
    if suffix in (".webp", ".avif"):  # slow, and not written in strips
        size = size[0], min(size[1], 200)
    path = tmp_path / "new folder" / f"ä[page=1]{suffix}"
    array = noise(rng, *size, bands, dtype=dtype)
    write(path, array, lossless=True)
    assert os.listdir(path.parent) == [path.name]
    image, pixels = open_image(path), read(path)
    assert image.dtype == dtype
    if suffix in (".webp", ".avif") and bands < 3:  # they have no gray
        array = np.concatenate([array[..., :1].repeat(3, -1), array[..., 1:]], -1)
    np.testing.assert_array_equal(pixels, array)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".gif"])
def test_lossy_formats_are_close_to_the_source(tmp_path, suffix):
    array = skimage.data.astronaut()[:200, :301]
    write(tmp_path / f"a{suffix}", array)
    error = read(tmp_path / f"a{suffix}")[..., :3].astype(float) - array
    assert 10 * np.log10(255**2 / np.mean(error**2)) > (25 if suffix == ".gif" else 36)
    if suffix != ".gif":
        sizes = []
        for quality in (30, 80, 100):
            write(tmp_path / f"a{suffix}", array, quality=quality)
            sizes.append((tmp_path / f"a{suffix}").stat().st_size)
        assert sizes == sorted(sizes)
    if suffix == ".jpg":  # no chroma subsampling
        with Image.open(tmp_path / "a.jpg") as image:
            assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3


@pytest.mark.parametrize(("lossless", "bits"), [(False, 10), (True, 12)])
def test_deep_avif_has_10_bits_or_12_if_lossless(tmp_path, rng, lossless, bits):
    array = noise(rng, 64, 64, 3, dtype=np.uint16) // 64 * 64 + 20
    write(tmp_path / "a.avif", array, lossless=lossless, quality=100)
    error = read(tmp_path / "a.avif").astype(int) - array
    assert pyvips.Image.heifload(str(tmp_path / "a.avif")).get("bits-per-sample") == bits
    if lossless:
        assert abs(error).max() <= 8
        assert abs(error.mean()) < 1


def test_large_images_are_written_as_bigtiff(tmp_path, rng, monkeypatch):
    array = noise(rng, 90, 50, 3)
    write(tmp_path / "a.tif", array, software=SOFTWARE)
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II*\0"
    monkeypatch.setattr(image_writer, "CLASSIC_TIFF", 90 * 50 * 3 - 1)
    write(tmp_path / "a.tif", array, software=SOFTWARE, like=open_image(camera_file()))
    assert (tmp_path / "a.tif").read_bytes()[:4] == b"II+\0"
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), array)
    with Image.open(tmp_path / "a.tif") as image:
        assert image.tag_v2[305] == SOFTWARE
    assert "exif-ifd3-GPSLatitude" in open_image(tmp_path / "a.tif").metadata


@pytest.mark.parametrize(
    ("suffix", "dtype", "depth", "expected"),
    [
        (".png", np.uint8, None, np.uint8),
        (".png", np.uint16, None, np.uint16),
        (".PNG", np.float32, None, np.uint16),
        (".png", np.uint8, 16, np.uint16),
        (".tif", np.float32, None, np.float32),
        (".tif", np.uint8, 32, np.float32),
        (".tif", np.float32, 8, np.uint8),
        (".jpg", np.uint16, None, np.uint8),
        (".webp", np.float32, None, np.uint8),
        (".gif", np.uint16, 8, np.uint8),
        (".avif", np.float32, None, np.uint16),
    ],
)
def test_output_depth_follows_the_source_unless_given(suffix, dtype, depth, expected):
    assert output_dtype(suffix, dtype, depth) == expected


@pytest.mark.parametrize(
    ("suffix", "depth", "message"),
    [
        (".jpg", 16, r"\.jpg holds 8 bits a channel, not 16; choose \.avif, \.png, \.tif, \.tiff"),
        (".png", 32, r"\.png holds 8 or 16 bits a channel, not 32; choose \.tif, \.tiff"),
        (".tif", 12, "not 12; the depths are 8, 16 and 32"),
        (".xyz", 8, r"\.xyz is not an output format; choose one of \.avif, "),
        ("", 8, "the name has no ending; choose one of"),
    ],
)
def test_unsupported_depths_are_refused(suffix, depth, message):
    with pytest.raises(InputError, match=message):
        output_dtype(suffix, np.uint8, depth)


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".jpg", {"bands": 4}, r"holds no transparency; choose \.png, \.webp or \.tif"),
        (".jpg", {"bands": 2}, "holds no transparency"),
        (".jpg", {"width": 65536}, r"no more than 65535 pixels a side, and this is 65536x9"),
        (".webp", {"height": 16384}, r"no more than 16383 .* 9x16384; choose \.png or \.tif"),
        (".gif", {"height": 65536}, "no more than 65535"),
        (".avif", {"height": 32769}, "no more than 32768"),
        (".png", {"frames": 2}, r"holds no animation \(2 frames\); choose \.webp or \.gif"),
        (".png", {"dtype": np.float32}, "does not hold float32"),
        (".jpg", {"lossless": True}, "is not lossless; choose"),
        (".jpg", {"quality": 0}, "the quality 0 is not from 1 to 100"),
        (".png", {"bands": 5}, "5 channels is not an image"),
        (".png", {"height": 0}, "0x9 pixels"),
    ],
)
def test_images_that_a_format_cannot_hold_are_refused(tmp_path, suffix, change, message):
    image = {"height": 9, "width": 9, "bands": 3, "dtype": np.uint8}
    check_target(suffix, **image)
    with pytest.raises(InputError, match=message):
        check_target(suffix, **image | change)

    def strips():
        pytest.fail("work was begun")
        yield

    path = tmp_path / "new" / f"a{suffix}"
    with pytest.raises(InputError, match=rf"a\{suffix}: .*{message}"):
        write_rows(path, strips(), **image | change)
    assert os.listdir(tmp_path) == []


def camera_file(kind: str = "jpeg", size: tuple[int, int] = (40, 30)) -> bytes:
    """Returns a photograph with EXIF, GPS, thumbnail, XMP, profile, and IPTC if JPEG."""
    thumbnail = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(thumbnail, "jpeg")
    exif = Image.Exif()
    exif.update({0x10F: "Maker", 0x110: "Model (new)", 0x112: 6, 305: "camera", 315: "Zoë"})
    inner = exif.get_ifd(EXIF)
    inner.update({0x829A: 0.02, 0x9003: "2024:01:02 03:04:05", 0xA434: "Lens 28mm (f/1.8)"})
    inner.update({0xA002: size[0], 0xA003: size[1], 0x927C: b"made by the maker"})
    gps = exif.get_ifd(GPS)
    gps.update({1: "N", 2: (48.0, 30.0, 15.5)})
    file = io.BytesIO()
    image = Image.new("RGB", size, (90, 120, 60))
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options = {"pnginfo": text} if kind == "png" else {"xmp": XMP}
    if kind == "tiff":  # for TIFF, Pillow writes nested EXIF only this way
        fields = TiffImagePlugin.ImageFileDirectory_v2()
        fields.update({tag: exif[tag] for tag in (0x10F, 0x110, 0x112, 305, 315)})
        fields[700], fields.tagtype[700] = XMP, 1
        fields[EXIF], fields[GPS] = dict(inner), dict(gps)
        options, exif = {"tiffinfo": fields}, None
    image.save(file, kind, exif=exif, icc_profile=SRGB, dpi=(300, 300), **options)
    if kind != "jpeg":
        return file.getvalue()
    resource = b"8BIM\x04\x04\0\0" + len(IPTC).to_bytes(4) + IPTC
    app13 = b"Photoshop 3.0\0" + resource
    data = file.getvalue()
    return data[:2] + b"\xff\xed" + (len(app13) + 2).to_bytes(2) + app13 + data[2:]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("source", ["jpeg", "tiff", "png"])
def test_metadata_is_copied_to_the_result(tmp_path, source, suffix):
    like, path = open_image(camera_file(source)), tmp_path / f"a{suffix}"
    assert (like.height, like.width) == (40, 30)  # EXIF orientation is applied
    write(path, np.repeat(np.repeat(np.concatenate(list(like.rows())), 2, 0), 2, 1), like=like)
    with Image.open(path) as image:
        assert image.size == (60, 80)
        assert image.info["icc_profile"] == SRGB
        exif = image.getexif()
        inner, gps = exif.get_ifd(EXIF), exif.get_ifd(GPS)
        if suffix not in (".webp", ".avif"):
            assert [round(float(dots)) for dots in image.info["dpi"]] == [300, 300]
        np.testing.assert_allclose(open_image(path).resolution or 300 / 25.4, 300 / 25.4, 1e-3)
    assert exif[0x112] == 1
    assert (exif[0x10F], exif[0x110], exif[305]) == ("Maker", "Model (new)", "camera")
    assert (inner[0x829A], inner[0x9003]) == (0.02, "2024:01:02 03:04:05")
    assert (inner[0xA434], inner[0x927C]) == ("Lens 28mm (f/1.8)", b"made by the maker")
    assert (inner[0xA002], inner[0xA003]) == (60, 80)
    assert (gps[1], [float(x) for x in gps[2]]) == ("N", [48.0, 30.0, 15.5])
    assert not exif.get_ifd(1)  # the thumbnail's
    written = open_image(path).metadata
    assert written["xmp-data"][1].rstrip(b"\0") == XMP.replace(b'"6"', b'"1"')
    assert written["icc-profile-data"][1] == SRGB
    if source == "jpeg" and suffix in (".jpg", ".tif"):
        assert IPTC in written["iptc-data"][1]


def test_iptc_is_kept_from_jpeg_to_tiff_and_back(tmp_path):
    like = open_image(camera_file())
    array = np.zeros((8, 8, 3), np.uint8)
    write(tmp_path / "a.tif", array, like=like)
    assert open_image(tmp_path / "a.tif").metadata["iptc-data"][1] == IPTC
    write(tmp_path / "a.jpg", array, like=open_image(tmp_path / "a.tif"))
    assert open_image(tmp_path / "a.jpg").metadata["iptc-data"] == like.metadata["iptc-data"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize("has_metadata", [True, False])
def test_the_software_is_recorded(tmp_path, suffix, has_metadata):
    like = open_image(camera_file()) if has_metadata else None
    write(tmp_path / f"a{suffix}", np.zeros((9, 9, 3), np.uint8), like=like, software=SOFTWARE)
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.getexif()[305] == SOFTWARE
        if suffix == ".png":
            assert image.text["Software"] == SOFTWARE


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif", ".gif"])
def test_no_metadata_is_added(tmp_path, suffix):
    plain = io.BytesIO()
    Image.new("RGB", (9, 9)).save(plain, "bmp")
    for like in (None, open_image(plain.getvalue())):
        write(tmp_path / f"a{suffix}", np.zeros((9, 9, 3), np.uint8), like=like)
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert not image.info.get("exif")
            assert "icc_profile" not in image.info
            assert EXIF not in image.getexif()


def test_an_invalid_gray_profile_is_not_copied_to_a_colour_image(tmp_path):
    gray = bytearray(SRGB)
    gray[16:20] = b"GRAY"
    file = io.BytesIO()
    Image.new("L", (9, 9)).save(file, "tiff", icc_profile=bytes(gray))
    like = open_image(file.getvalue())
    assert "icc-profile-data" in like.metadata
    write(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8), like=like)
    assert "icc-profile-data" not in open_image(tmp_path / "a.png").metadata


@pytest.mark.parametrize("source", ["gif", "webp"])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("loop", [0, 3])
def test_animations_keep_delays_and_loops(tmp_path, rng, source, suffix, loop):
    frames = [Image.fromarray(noise(rng, 70, 20, 3) // 128 * 255) for _ in range(3)]
    frames.append(frames[-1])  # a repeated frame
    file = io.BytesIO()
    times = {"duration": [100, 200, 50, 60], "loop": loop, "minimize_size": False}
    frames[0].save(file, source, save_all=True, append_images=frames[1:], lossless=True, **times)
    like, array = open_image(file.getvalue()), read(file.getvalue())
    path = tmp_path / f"a{suffix}"
    write(path, array.repeat(2, 0).repeat(2, 1), like.frames, like=like, lossless=suffix == ".webp")
    image = open_image(path)
    assert (image.height, image.width, image.frames) == (140, 40, like.frames)
    for name in ("delay", "loop"):
        assert image.metadata[name] == like.metadata[name]
    np.testing.assert_array_equal(read(path)[..., :3], array[..., :3].repeat(2, 0).repeat(2, 1))
    write(tmp_path / "a.png", array[:70], like=like)  # a single frame
    assert open_image(tmp_path / "a.png").frames == 1


def test_float_images_keep_their_white_level(tmp_path, rng):
    array = rng.uniform(0, 200, (20, 9, 1)).astype(np.float32)
    file = pyvips.Image.new_from_array(array).tiffsave_buffer()
    like = open_image(file)
    write(tmp_path / "a.tif", read(file), like=like)
    back = pyvips.Image.new_from_file(str(tmp_path / "a.tif")).numpy()
    np.testing.assert_allclose(back, array[..., 0], rtol=1e-5)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".avif"])
def test_a_stream_gets_the_same_bytes_as_a_file(tmp_path, rng, suffix):
    array, stream = noise(rng, 90, 40, 3), io.BytesIO()
    write(stream, array, suffix=suffix, software=SOFTWARE)
    write(tmp_path / f"a{suffix}", array, software=SOFTWARE)
    assert stream.getvalue() == (tmp_path / f"a{suffix}").read_bytes()
    with pytest.raises(InputError, match="standard output: the name has no ending"):
        write(io.BytesIO(), array)


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("kind", [OSError, InputError, KeyError, pyvips.Error, Interrupt])
def test_exceptions_of_the_strips_are_raised_unchanged(tmp_path, suffix, kind):
    error, cause, threads = kind("no"), ValueError("first"), set()

    def strips():
        for _ in range(3):
            threads.add(threading.current_thread())
            yield np.zeros((30, 1000, 3), np.uint8)
        raise error from cause

    (tmp_path / f"a{suffix}").write_bytes(b"old")
    with pytest.raises(kind) as raised:
        write_rows(
            tmp_path / f"a{suffix}", strips(), height=1000, width=1000, bands=3, dtype=np.uint8
        )
    assert raised.value is error
    assert error.__cause__ is cause
    assert os.listdir(tmp_path) == [f"a{suffix}"]
    assert (tmp_path / f"a{suffix}").read_bytes() == b"old"
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((39, 9, 3), "the strips have 39 rows, not 40"),
        ((41, 9, 3), "the strips have 41 rows, not 40"),
        ((40, 8, 3), "a strip of uint8"),
        ((40, 9, 4), "a strip of uint8"),
    ],
)
def test_strips_of_wrong_size_are_refused(tmp_path, shape, message):
    with pytest.raises(ValueError, match=message):
        write_rows(
            tmp_path / "a.png",
            [np.zeros(shape, np.uint8)],
            height=40,
            width=9,
            bands=3,
            dtype=np.uint8,
        )
    assert os.listdir(tmp_path) == []


def test_write_errors_name_the_target(tmp_path):
    array = np.zeros((300, 300, 3), np.uint8)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file/a\.png: could not be written: \w"):
        write(tmp_path / "file" / "a.png", array)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        write(tmp_path / "a.png", array)
    with (
        Path("/dev/full").open("wb", 0) as full,
        pytest.raises(RunError, match="standard output: could not be written: No space"),
    ):
        write(full, array, suffix=".png")


SCRIPT = """
import resource, sys
import numpy as np
from pathlib import Path
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows

path = Path(sys.argv[1])
for height in (400, 12000):
    strips = (np.full((80, 1500, 3), y // 80 % 256, np.uint8) for y in range(0, height, 80))
    write_rows(path, strips, height=height, width=1500, bands=3, dtype=np.uint8)
    assert sum(map(len, open_image(path).rows())) == height
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_memory_does_not_grow_with_the_height(tmp_path, suffix):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / f"a{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    low, high = map(int, done.stdout.split())
    assert high - low < 25, "MiB, of an image that has 51"
    assert done.stderr == ""


def test_a_killed_process_leaves_no_partial_result(tmp_path):
    code = SCRIPT.replace("(np.full", "(os.kill(os.getpid(), 9) if y > 200 else np.full")
    command = [sys.executable, "-c", "import os\n" + code, str(tmp_path / "a.png")]
    assert subprocess.run(command, check=False).returncode == -9
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("size", [60_000, 65_300])
def test_a_long_exif_is_kept_in_a_jpeg_with_the_record_if_there_is_room(tmp_path, size):
    """libvips leaves out all EXIF if it has more than 64 KiB."""
    exif = Image.Exif()
    exif[271] = "Make"
    exif.get_ifd(0x8769)[37500] = bytes(size)  # a maker note
    source, target = tmp_path / "a.jpg", tmp_path / "b.jpg"
    Image.new("RGB", (8, 8)).save(source, exif=exif)
    image = open_image(source)
    rows = [np.zeros((8, 8, 3), np.uint8)]
    about = {"height": 8, "width": 8, "bands": 3, "dtype": np.dtype(np.uint8)}
    write_rows(target, rows, **about, like=image, software="x" * 300)
    found = Image.open(target).getexif()
    assert found[271] == "Make"
    assert len(found.get_ifd(0x8769)[37500]) == size
    assert (305 in found) == (size < 65_000)
    assert not lost(image, ".jpg")
