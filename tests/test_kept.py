"""Tests for rows of the table in docs/formats.md, and that each of its rows has a test."""

import ast
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms

from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows
from esrgan_jax.imresize import imresize
from tests.kept import WORDS, Result, check, rows

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a dc:creator="Ada"/></x:xmpmeta>'
WRITTEN = ("b.png", "b.jpg", "b.webp", "b.tif", "b.avif")
ramp = 20 + np.mgrid[0:24, 0:20][0].astype(np.uint8) * 9


def encoded(array: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def pixels(path: Path) -> np.ndarray:
    return np.concatenate(list(open_image(path).rows()))


def test_every_row_has_a_test_and_every_marked_test_a_row():
    tested = []
    for path in Path(__file__).parent.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            marks = [
                ast.literal_eval(call.args[0])
                for decorator in node.decorator_list
                for call in ast.walk(decorator)
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.kept"
            ]
            tested += marks
            assert not marks or "outcome" in [a.arg for a in node.args.args], node.name
    named = [name for name, _ in rows()]
    assert len(named) > 10  # the table was found
    assert [name for name, count in Counter(named).items() if count > 1] == []
    assert set(tested) == set(named)
    assert {word for _, outcome in rows() for word in outcome.split(", ")} == WORDS


@pytest.mark.parametrize("outcome", ["kept", "noted", "refused"])
def test_check_fails_for_other_outcomes(tmp_path, outcome):
    existing = tmp_path / "b.png"
    existing.touch()
    results = {
        "kept": Result([], None, existing),
        "noted": Result(["a note"], None, existing),
        "refused": Result([], "it is raw", tmp_path / "c.png"),
    }
    check(outcome, results.pop(outcome))
    for other in results.values():
        with pytest.raises(AssertionError):
            check(outcome, other)


@pytest.mark.kept("depth-16")
@pytest.mark.parametrize("target", ["b.png", "b.tif", "b.avif"])
def test_sixteen_bits_are_kept(outcome, target):
    deep = ramp.astype(np.uint16) * 257 + 77
    found = pixels(outcome(encoded(deep, "png"), target, lossless=target == "b.avif").path)
    assert found.dtype == np.uint16
    expected = imresize(deep[..., None] / 65535, 2) * 65535
    np.testing.assert_allclose(found[..., :1], expected, atol=24 if target == "b.avif" else 1)


@pytest.mark.kept("alpha")
@pytest.mark.parametrize("target", ["b.png", "b.webp", "b.tif", "b.avif"])
def test_alpha_is_kept(outcome, target):
    rgba = np.dstack([ramp, ramp, ramp, 240 - ramp])
    found = pixels(outcome(encoded(rgba, "png"), target, lossless=target in WRITTEN[2::2]).path)
    expected = imresize(rgba[..., 3:] / 255, 2) * 255
    np.testing.assert_allclose(found[..., 3:], expected, atol=1)


@pytest.mark.kept("alpha-jpeg")
def test_alpha_is_refused_for_a_jpeg(outcome):
    result = outcome(encoded(np.dstack([ramp] * 4), "png"), "b.jpg")
    assert result.failure == ".jpg holds no transparency; choose .png, .webp or .tif"


@pytest.mark.kept("about")
@pytest.mark.parametrize("target", WRITTEN)
def test_profile_exif_xmp_and_orientation_are_kept(outcome, target):
    exif = Image.Exif()
    exif[0x112], exif[0x10F], exif[0x8298] = 6, "Maker", "Ada"
    rgb = np.dstack([ramp] * 3)
    result = outcome(
        encoded(rgb, "jpeg", exif=exif, icc_profile=SRGB, xmp=XMP, quality=100), target
    )
    found = open_image(result.path)
    assert (found.height, found.width) == (40, 48)
    rotated = np.rot90(imresize(rgb / 255, 2) * 255, -1)
    assert abs(pixels(result.path)[..., :3] - rotated).mean() < 2
    assert found.metadata["icc-profile-data"][1] == SRGB
    assert found.metadata["xmp-data"][1].rstrip(b"\0") == XMP
    with Image.open(result.path) as image:
        written = image.getexif()
        assert (written[0x10F], written[0x8298], written.get(0x112, 1)) == ("Maker", "Ada", 1)


@pytest.mark.kept("resolution")
@pytest.mark.parametrize("target", WRITTEN)
def test_resolution_is_kept(outcome, target):
    result = outcome(encoded(ramp, "png", dpi=(300, 150)), target)
    with Image.open(result.path) as image:  # every format has EXIF
        found = image.getexif()
    assert (found[282], found[283], found[296]) == pytest.approx((300, 150, 2), rel=1e-3)
    if target in ("b.png", "b.jpg", "b.tif"):
        result_image = pyvips.Image.new_from_file(str(result.path))
        expected = (300 / 25.4, 150 / 25.4)
        assert (result_image.xres, result_image.yres) == pytest.approx(expected, rel=1e-3)


@pytest.mark.kept("animation")
@pytest.mark.parametrize("target", ["b.webp", "b.gif"])
@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_animations_are_kept(outcome, kind, target):
    frames = [Image.fromarray(np.full((24, 20, 3), v, np.uint8)) for v in (10, 120, 250)]
    file = io.BytesIO()
    times = {"duration": [100, 200, 50], "loop": 3, "lossless": True}
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **times)
    result = outcome(file.getvalue(), target)
    found = open_image(result.path)
    assert (found.frames, found.height, found.width) == (3, 48, 40)
    assert found.metadata["delay"][1] == [100, 200, 50]
    colors = pixels(result.path)[24::48, 20, :3].astype(int)
    np.testing.assert_allclose(colors, [[10] * 3, [120] * 3, [250] * 3], atol=6)


@pytest.mark.kept("gif-times")
def test_frame_times_of_a_gif_are_those_that_browsers_show(outcome):
    frames = [Image.fromarray(np.full((24, 20, 3), v, np.uint8)) for v in (10, 80, 160, 250)]
    file = io.BytesIO()
    times = {"duration": [33, 5, 16, 101], "lossless": True}
    frames[0].save(file, "webp", save_all=True, append_images=frames[1:], **times)
    result = outcome(file.getvalue(), "b.gif")
    assert open_image(result.path).metadata["delay"][1] == [30, 20, 20, 100]


@pytest.mark.kept("alpha-gif")
def test_transparency_of_a_gif_is_all_or_nothing(outcome):
    rgba = np.full((24, 20, 4), 200, np.uint8)
    rgba[..., 3] = np.arange(20) * 13
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "png")
    alpha = pixels(outcome(file.getvalue(), "b.gif").path)[..., 3]
    assert set(np.unique(alpha)) == {0, 255}
    assert alpha[24, 0] == 0
    assert alpha[24, -1] == 255


@pytest.mark.kept("animation-parts")
@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
@pytest.mark.parametrize("target", ["b.webp", "b.gif"])
def test_partial_frames_of_a_gif_are_composed(outcome, disposal, target):
    """Compares with Pillow for every disposal method of GIF."""
    frames = []
    for i in range(3):
        frame = np.zeros((24, 20, 4), np.uint8)
        frame[:, 5 * i : 5 * i + 5] = 250, 0, 0, 255
        frames.append(Image.fromarray(frame))
    file = io.BytesIO()
    frames[0].save(file, "gif", save_all=True, append_images=frames[1:], disposal=disposal)
    found = pixels(outcome(file.getvalue(), target).path).reshape(3, 48, 40, 4)
    with Image.open(file) as image:
        for i in range(3):
            image.seek(i)
            alpha = np.asarray(image.convert("RGBA"))[12, 2::5, 3]
            np.testing.assert_array_equal(found[i, 24, 5::10, 3], alpha)


@pytest.mark.kept("animation-png")
def test_an_animation_is_refused_for_a_png(outcome):
    frames = [Image.fromarray(np.full((8, 8, 3), v, np.uint8)) for v in (10, 250)]
    file = io.BytesIO()
    frames[0].save(file, "webp", save_all=True, append_images=frames[1:])
    message = ".png holds no animation (2 frames); choose .webp or .gif"
    assert outcome(file.getvalue()).failure == message


@pytest.mark.kept("apng")
def test_only_the_first_frame_of_an_animated_png_is_kept(outcome):
    frames = [Image.fromarray(np.full((8, 8, 3), v, np.uint8)) for v in (10, 250)]
    file = io.BytesIO()
    frames[0].save(file, "png", save_all=True, append_images=frames[1:])
    result = outcome(file.getvalue())
    assert result.notes == ["only the first frame of the animated PNG is used"]
    assert (pixels(result.path) == 10).all()


@pytest.mark.kept("pages")
def test_only_the_first_page_of_a_tiff_is_kept(outcome):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for value in (10, 250):
            writer.write(np.full((8, 9, 3), value, np.uint8), photometric="rgb")
    result = outcome(file.getvalue())
    assert result.notes == ["only the first of the 2 images in the file is used"]
    assert (pixels(result.path) == 10).all()


@pytest.mark.kept("tiff-description")
@pytest.mark.parametrize("kind", ["ImageJ", "OME"])
def test_imagej_and_ome_descriptions_are_dropped(outcome, kind):
    """With the old description, tifffile would read the result in the shape of the source."""
    file = io.BytesIO()
    tifffile.imwrite(file, ramp, **{kind.lower(): True})
    result = outcome(file.getvalue(), "b.tif")
    assert result.notes == [
        f"its description by {kind} is dropped, as it describes the original pixels"
    ]
    with tifffile.TiffFile(result.path) as written:
        assert "ImageDescription" not in written.pages[0].tags


def test_descriptions_are_kept_except_those_of_tifffile(tmp_path):
    for description, existing in (('{"shape": [24, 20]}', False), ("a shape of OME <b>", True)):
        source, target = tmp_path / "a.tif", tmp_path / "b.tif"
        tifffile.imwrite(source, ramp, description=description, metadata=None)
        assert open_image(source).notes == ()
        image = open_image(source)
        form = {"height": 24, "width": 20, "bands": 1, "dtype": np.uint8}
        write_rows(target, image.rows(), like=image, **form)
        with tifffile.TiffFile(target) as written:
            tags = written.pages[0].tags
            assert ("ImageDescription" in tags) == existing
            assert not existing or tags["ImageDescription"].value == description


@pytest.mark.kept("cmyk")
def test_cmyk_is_converted(outcome):
    file = io.BytesIO()
    Image.new("CMYK", (9, 8), (0, 255, 255, 0)).save(file, "jpeg", quality=100)
    result = outcome(file.getvalue())
    assert result.notes == ["CMYK was converted to sRGB"]
    red, green, blue = pixels(result.path)[4, 4].astype(int)
    assert red > 200
    assert max(green, blue) < 80
