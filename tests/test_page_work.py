"""Tests of the page's work on an image without a browser: limits, files, previews, messages."""

import itertools
import threading
import time

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.app import image_work, previews
from esrgan_jax.app.estimate import Estimate
from esrgan_jax.app.image_work import Limits, open_within, upscale_image
from esrgan_jax.app.intake import quality_hint
from esrgan_jax.app.jpeg_quality import jpeg_quality
from esrgan_jax.app.networks import make_upscaler
from esrgan_jax.app.watched import StoppedByUser
from esrgan_jax.batch.jobs import ResultOptions
from esrgan_jax.errors import InputError
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows

LIMITS = Limits(megapixels=0.01, result_megapixels=0.1, megabytes=1)


def read(path):
    return np.concatenate(list(open_image(path).rows()))


def write(path, array, **options):
    height, width, bands = array.shape
    options = {"dtype": array.dtype, "height": height, "width": width, "bands": bands, **options}
    write_rows(path, [array], **options)
    return path


@pytest.fixture
def upscaler(page_models):
    return make_upscaler(str(page_models["gan"]))


def upscale(upscaler, path, folder, options, **callbacks):
    return upscale_image(upscaler, open_image(path), path, folder, options, LIMITS, **callbacks)


def test_a_too_large_image_or_result_is_refused_before_reading(upscaler, tmp_path):
    large = write(tmp_path / "large.png", np.zeros((101, 100, 3), np.uint8))
    with pytest.raises(InputError, match=r"^large\.png: has 0\.0101 megapixels, and"):
        open_within(large, LIMITS)
    small = write(tmp_path / "small.png", np.zeros((90, 90, 3), np.uint8))
    for scale in (None, 2, 8):  # the network computes x4 whatever the scale of the result
        with pytest.raises(InputError, match=r"the result would have 0\.(1296|5184) megapixels"):
            upscale(upscaler, small, tmp_path, ResultOptions(scale))


def test_a_video_is_refused_with_the_command_to_use(tmp_path):
    video = tmp_path / "video.mp4"
    video.write_bytes(b"\0\0\0\x18ftypisom")
    with pytest.raises(InputError, match=r"^video\.mp4: is a video; python -m esrgan_jax\.upscale"):
        open_within(video, LIMITS)


def test_depth_alpha_and_metadata_are_kept(upscaler, tmp_path, rng):
    image = rng.integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    path, counts, folder = write(tmp_path / "deep.png", image), [], tmp_path / "made"
    target, notes = upscale(
        upscaler, path, folder, ResultOptions(4), progress=lambda *count: counts.append(count)
    )
    assert (target, notes) == (folder / "deep_x4.png", [])
    assert (counts[0], counts[-1]) == ((0, 20 * 24 * 16), (20 * 24 * 16, 20 * 24 * 16))
    np.testing.assert_array_equal(read(target), upscaler(image))
    half, _ = upscale(upscaler, path, folder, ResultOptions(2.5, suffix=".tif", depth=8))
    assert half.name == "deep_x2.5.tif"
    assert read(half).dtype == np.uint8
    with pytest.raises(InputError, match=r"\.jpg holds no transparency"):
        upscale(upscaler, path, folder, ResultOptions(2.5, suffix=".jpg"))
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.fromarray(image[..., :3].astype(np.uint8)).save(tmp_path / "exif.jpg", exif=exif)
    jpeg, _ = upscale(upscaler, tmp_path / "exif.jpg", folder, ResultOptions(2, suffix=".jpg"))
    with Image.open(jpeg) as result:
        assert result.getexif()[0x010E] == "a description"
        assert "esrgan_jax" in result.getexif()[0x0131]  # as the command writes it


def test_an_animation_keeps_its_frames(upscaler, tmp_path, rng):
    frames = rng.integers(0, 256, (3 * 8, 9, 3), dtype=np.uint8)
    path = write(tmp_path / "moving.webp", frames, height=8, frames=3, lossless=True)
    suffix = image_work.suffix_for("", open_image(path))
    target, _ = upscale(upscaler, path, tmp_path / "made", ResultOptions(4, suffix=suffix))
    assert (open_image(target).frames, read(target).shape) == (3, (96, 36, 3))
    assert target.suffix == ".webp"
    with pytest.raises(InputError, match="not one of the formats"):
        image_work.suffix_for("/../x", open_image(path))


def test_a_stopped_upscaling_leaves_no_file(upscaler, tmp_path, rng):
    path = write(tmp_path / "photo.png", rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    folder, stop = tmp_path / "made", threading.Event()

    def progress(done, total):
        if done:
            stop.set()

    with pytest.raises(StoppedByUser):
        upscale(upscaler, path, folder, ResultOptions(4), progress=progress, stop=stop)
    assert not list(folder.glob("*"))


def test_a_truncated_image_is_refused(upscaler, tmp_path, rng):
    path = write(tmp_path / "cut.png", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match=r"cut\.png: cannot be read as an image"):
        upscale(upscaler, path, tmp_path / "made", ResultOptions(4))


def test_parts_join_to_the_result_from_top_to_bottom(page_models, tmp_path, rng):
    smooth = np.add.outer(np.arange(90), np.arange(60))[..., None] + np.array([0, 40, 80])
    path = write(tmp_path / "photo.png", smooth.astype(np.uint8))
    parts = []
    upscaler = make_upscaler(str(page_models["gan"]), tile=32)
    folder = tmp_path / "made"
    target, _ = upscale(
        upscaler, path, folder, ResultOptions(4), part=lambda *part: parts.append(part)
    )
    assert len(parts) > 2  # of three rows of tiles or more
    assert parts[0][0] == 0
    for (top, height, _), (below, *_) in itertools.pairwise(parts):
        assert top + height == pytest.approx(below)
    assert sum(height for _, height, _ in parts) == pytest.approx(1)
    shown = np.concatenate([read(file) for *_, file in parts])
    assert shown.shape == (360, 240, 3)
    assert np.abs(shown.astype(int) - read(target)).mean() < 6  # JPEG


def test_previews_are_small_and_opaque(tmp_path):
    assert previews.preview_size(300, 6400, longest=1600) == (75, 1600)
    assert previews.preview_size(3, 4) == (3, 4)
    array = np.zeros((20, 24, 4), np.uint16)
    array[:10, :, 3] = 65535  # black above, transparent below
    image = open_image(write(tmp_path / "half.png", array))
    preview = read(previews.write_preview(image, tmp_path / "p.jpg", (40, 48)))
    assert (preview.shape, preview.dtype) == ((40, 48, 3), np.uint8)
    assert preview[:16].max() < 8
    assert preview[24:].min() > 247


def test_an_estimate_grows_between_reports_but_never_past_the_next(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    one = Estimate(steps=1, seconds=10)
    shares = []
    for now[0] in (0, 2, 5, 10, 60, 600):
        shares.append(one.share())
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert 0.5 < shares[3] < shares[5] < 1
    now[0] = 0.0
    four = Estimate(steps=4, seconds=10)
    now[0] = 8.0
    assert four.share() < 0.25
    four.report(0.25)
    assert four.share() == 0.25
    now[0] = 12.0
    assert 0.25 < four.share() < 0.5
    four.report(1.0)
    assert four.share() == 1


@pytest.mark.parametrize("quality", [15, 30, 50, 75, 85, 92, 97])
def test_jpeg_quality_is_read_from_the_quantization_tables(tmp_path, rng, quality):
    image = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    for name, options in (("a.jpg", {}), ("b.jpg", {"progressive": True}), ("c.jpg", {"l": True})):
        variant = image.convert("L") if options.pop("l", False) else image
        variant.save(tmp_path / name, quality=quality, **options)
        assert abs(jpeg_quality(tmp_path / name) - quality) <= 1
    hint = quality_hint(jpeg_quality(tmp_path / "a.jpg"))
    assert (hint is not None) == (quality < 90)
    if hint:
        assert hint["text"].startswith(f"This JPEG was saved at a quality of about {quality}")
        assert hint["network"] == "lite-x4-real"


def test_jpeg_quality_of_other_or_broken_files_is_none(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0no more")
    assert jpeg_quality(tmp_path / "a.png") is None
    assert jpeg_quality(tmp_path / "b.jpg") is None
    assert quality_hint(None) is None


def test_progress_lines_and_errors_without_folders(tmp_path):
    assert image_work.progress_line(0, 4_800_000, 0) == "4.80 megapixels to compute"
    line = image_work.progress_line(1_200_000, 4_800_000, 12)
    assert line == "1.20 of 4.80 megapixels, 00:36 left"
    error = InputError(f"{tmp_path}/0a1b/my cat.png: cannot be read")
    assert image_work.without_folders(error, tmp_path) == "my cat.png: cannot be read"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my cat.png", "my cat.png"),
        ("../../etc/pass\x00wd", "pass_wd"),
        ("C:\\Users\\me\\cat.jpg", "cat.jpg"),
        ("", "image"),
        (".png", "png"),
        ("猫" * 100 + ".tiff", "猫" * 50 + ".tiff"),
        ("a" * 300, "a" * 150),
        ("..", "image"),
    ],
)
def test_safe_name_keeps_the_file_name_without_folders(name, expected):
    safe = image_work.safe_name(name)
    assert safe == expected
    assert "/" not in safe
    assert safe not in ("", ".", "..")
