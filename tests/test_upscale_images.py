"""Tests of upscaling image files: formats, metadata, failures and memory."""

import gc
import io
import json
import shutil
import threading
import types
import weakref
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from esrgan_jax.batch import upscale_images
from esrgan_jax.batch.jobs import ResultOptions
from esrgan_jax.batch.report import Report
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import RunError
from esrgan_jax.files import sha256
from esrgan_jax.images.reader import open_image
from esrgan_jax.imresize import imresize
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscale import main
from esrgan_jax.upscaling.strips import Strips
from esrgan_jax.upscaling.upscaler import Upscaler


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small x4 generator with visible results: (path, upscaler with small tiles)."""
    module = RRDBNet(num_features=8, num_growth=4, num_blocks=1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.15, s.shape).astype(np.float32), shapes)
    variables["params"]["conv_last"]["bias"] += np.float32(0.5)
    path = tmp_path_factory.mktemp("model") / "modèl.safetensors"
    save_generator(path, module, variables)
    return path, Upscaler(module, variables, tile=64, overlap=16)


@pytest.fixture
def upscale(model, tmp_path):
    """Runs the command on files and returns (open image, pixels) of each result."""

    def run(*sources: Path, output: str, options=()) -> list:
        target = tmp_path / output
        command = [*map(str, sources), f"--output={target}", f"--model={model[0]}"]
        main([*command, "--tile=64", "--overlap=16", "--progress=quiet", *options])
        found = sorted(target.rglob("*")) if target.is_dir() else [target]
        return [read(path) for path in found if path.is_file()]

    return run


def read(path: Path):
    image = open_image(path)
    return image, np.concatenate(list(image.rows()))


def noise(*shape: int, dtype: np.typing.DTypeLike = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(3)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def image_file(path: Path, mode: str, size=(21, 30)) -> Path:
    """Writes an image in a mode of Pillow, or in modes such as RGB16."""
    bands = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
    if mode[-2:] in ("16", "32"):
        dtype = np.uint16 if mode.endswith("16") else np.float32
        tifffile.imwrite(
            path,
            noise(*size, bands[mode[:-2]], dtype=dtype),
            photometric="minisblack" if mode[0] == "L" else "rgb",
            extrasamples=["unassalpha"] if "A" in mode else None,
        )
    elif mode in ("1", "P"):
        Image.fromarray(noise(*size, 3)).convert(mode).save(path)
    else:
        pixels = noise(*size, bands[mode]).tobytes()
        Image.frombytes(mode, size[::-1], pixels).save(path)
    return path


U8, U16, F32 = np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)


@pytest.mark.parametrize(
    ("source", "mode", "target", "dtype", "bands"),
    [
        ("a.png", "RGB", "b.png", U8, 3),
        ("a.png", "RGBA", "b.tif", U8, 4),
        ("a.png", "L", "b.png", U8, 1),
        ("a.png", "LA", "b.png", U8, 2),
        ("a.png", "1", "b.png", U8, 1),
        ("a.png", "P", "b.webp", U8, 3),
        ("a.jpg", "RGB", "b.png", U8, 3),
        ("a.jpg", "CMYK", "b.png", U8, 3),
        ("a.webp", "RGBA", "b.avif", U8, 4),
        ("a.avif", "RGB", "b.png", U8, 3),
        ("a.gif", "L", "b.png", U8, 3),
        ("a.ppm", "RGB", "b.png", U8, 3),
        ("a.bmp", "RGB", "b.webp", U8, 3),
        ("a.tif", "RGB16", "b.png", U16, 3),
        ("a.tif", "RGBA16", "b.tif", U16, 4),
        ("a.tif", "RGB32", "b.tif", F32, 3),
        ("a.tif", "L32", "b.png", U16, 1),
        ("a.png", "RGB", "b.jpg", U8, 3),
        ("a.tif", "RGB16", "b.jpg", U8, 3),
        ("a.png", "RGBA", "b.gif", U8, 4),
    ],
)
def test_formats_and_modes_of_images(model, upscale, tmp_path, source, mode, target, dtype, bands):
    path = image_file(tmp_path / source, mode)
    lossy = target in ("b.jpg", "b.gif")
    options = ["--lossless"] if target in ("b.webp", "b.avif") else []
    ((written, pixels),) = upscale(path, output=target, options=options)
    lr = read(path)[1]
    assert (written.height, written.width) == (84, 120)
    assert written.dtype == dtype
    assert written.bands == bands
    if not lossy:
        expected = model[1](lr)
        expected = expected / (1 if expected.dtype == F32 else np.iinfo(expected.dtype).max)
        peak = 1 if dtype == F32 else np.iinfo(dtype).max
        equal = np.rint(expected * peak) if peak > 1 else expected
        assert expected.std() > 0.02
        if lr.dtype == dtype:
            np.testing.assert_array_equal(pixels, equal)
        else:
            np.testing.assert_allclose(pixels, equal, atol=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (33, 17), (70, 90)])
def test_images_of_various_sizes(model, upscale, tmp_path, size):
    path = image_file(tmp_path / "a.png", "RGB", size)
    ((_, pixels),) = upscale(path, output="b.png")
    np.testing.assert_array_equal(pixels, model[1](read(path)[1]))


@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_alpha_is_kept(upscale, tmp_path, value):
    array = noise(20, 20, 4)
    array[..., 3] = value
    Image.fromarray(array).save(tmp_path / "a.png")
    ((_, pixels),) = upscale(tmp_path / "a.png", output="b.png")
    assert (pixels[..., 3] == value).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(model, upscale, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(noise(12, 20, 3)).save(tmp_path / "a.png", exif=exif)
    ((written, pixels),) = upscale(tmp_path / "a.png", output="b.png")
    assert (written.height > written.width) == (orientation >= 5)
    np.testing.assert_array_equal(pixels, model[1](read(tmp_path / "a.png")[1]))
    with Image.open(tmp_path / "b.png") as image:
        assert image.getexif().get(0x112, 1) == 1


@pytest.mark.parametrize("target", ["b.png", "b.jpg", "b.webp", "b.tif", "b.avif"])
def test_metadata_is_kept_and_the_network_recorded(model, upscale, tmp_path, target):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x10F] = "Maker"
    image = Image.fromarray(noise(20, 20, 3))
    image.save(tmp_path / "a.jpg", exif=exif, icc_profile=profile, xmp=xmp)
    ((written, _),) = upscale(tmp_path / "a.jpg", output=target)
    assert written.metadata["icc-profile-data"][1] == profile
    assert written.metadata["xmp-data"][1].rstrip(b"\0") == xmp
    with Image.open(tmp_path / target) as image:
        exif = image.getexif()
    assert exif[0x10F] == "Maker"
    name = f"mod?l.safetensors sha256:{sha256(model[0])[:16]}"
    assert name[5:] in exif[305]
    assert exif[305].startswith("esrgan_jax ")
    if target == "b.png":
        text = PngImagePlugin.PngImageFile(tmp_path / target).text
        assert text["Software"].endswith(name[5:])


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("target", ["b.webp", "b.gif", "out"])
def test_animations_are_upscaled_frame_by_frame(model, upscale, tmp_path, kind, target):
    frames = [Image.fromarray(frame) for frame in noise(3, 16, 16, 3) // 128 * 255]
    options = {"append_images": frames[1:], "duration": [100, 40, 70], "loop": 3, "lossless": True}
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, **options)
    lossless = [] if target == "b.gif" else ["--lossless"]
    ((written, pixels),) = upscale(tmp_path / f"a.{kind}", output=target, options=lossless)
    before, lr = read(tmp_path / f"a.{kind}")
    assert (written.frames, written.height) == (3, 64)
    for name in ("delay", "loop"):
        assert written.metadata[name] == before.metadata[name]
    if target != "b.gif":
        expected = np.concatenate([model[1](frame) for frame in lr.reshape(3, 16, 16, -1)])
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (["--scale=2"], (42, 60)),
        (["--scale=2.5"], (52, 75)),
        (["--scale=0.3"], (6, 9)),
        (["--size=100x0"], (70, 100)),
        (["--size=150x0"], (105, 150)),  # larger than the network's scale
        (["--size=31x7"], (7, 31)),
    ],
)
def test_scale_and_size_set_the_size_of_the_result(model, upscale, tmp_path, options, size):
    path = image_file(tmp_path / "a.png", "RGB")
    ((written, pixels),) = upscale(path, output="b.png", options=options)
    assert (written.height, written.width) == size
    np.testing.assert_array_equal(pixels, model[1](read(path)[1], size=size[::-1]))


def test_a_strength_of_0_is_bicubic(upscale, tmp_path):
    path = image_file(tmp_path / "a.png", "RGB")
    ((_, pixels),) = upscale(path, output="b.png", options=["--strength=0"])
    expected = np.asarray(imresize(read(path)[1].astype(np.float32), 4)).clip(0, 255)
    assert np.abs(pixels - np.rint(expected)).max() <= 1


def test_depth_and_quality_are_those_of_the_result(upscale, tmp_path):
    path = image_file(tmp_path / "a.png", "RGB")
    for output, options, dtype in [
        ("b.png", ["--depth=16"], U16),
        ("b.tif", ["--depth=32"], F32),
        ("b.avif", ["--depth=16"], U16),
        ("b.jpg", ["--quality=10"], U8),
        ("c.jpg", ["--quality=95"], U8),
    ]:
        ((written, _),) = upscale(path, output=output, options=options)
        assert written.dtype == dtype
    assert (tmp_path / "b.jpg").stat().st_size < (tmp_path / "c.jpg").stat().st_size / 2


class Twice:
    """An upscaler that repeats pixels and has no network."""

    scale, then, name = 2, None, "twice"
    module = types.SimpleNamespace(in_channels=3, out_channels=3)

    def seams(self, height, width):
        return None

    def stream(self, images, *, progress=None):
        for image in images:
            height, width = image.height * 2, image.width * 2
            rows = (self.doubled(strip, progress) for strip in image.rows)
            yield replace(image, height=height, width=width, rows=rows)

    def doubled(self, strip, progress):
        progress(4 * strip.shape[0] * strip.shape[1])
        return strip.repeat(2, 0).repeat(2, 1)


@pytest.fixture
def jobs(tmp_path):
    """Six jobs: (source, target) of images."""
    for index in range(6):
        image_file(tmp_path / f"{index}.png", "RGB")
    return [(tmp_path / f"{i}.png", tmp_path / f"out/{i}.png") for i in range(6)]


def run(jobs, upscaler=None, **result_options) -> Report:
    report = Report("json", len(jobs), io.StringIO())
    with report:
        upscale_images.upscale_files(
            upscaler or Twice(), jobs, ResultOptions(**result_options), report
        )
    return report


def test_failures_known_in_advance_are_reported_first(jobs, tmp_path):
    jobs = [(source, target.with_suffix(".jpg")) for source, target in jobs]
    image_file(jobs[4][0], "RGBA")
    jobs[2][0].write_text("no image")
    jobs[3][1].mkdir(parents=True)
    (tmp_path / "gone.png").touch()
    report = run(jobs)
    events = [line.split('"')[3] for line in report.out.getvalue().splitlines()]
    results = [event for event in events if event != "progress"]  # sent once a second
    assert results == ["failed"] * 3 + ["done"] * 3 + ["finished"]
    reasons = [reason for _, reason in report.failures]
    assert "not a known format" in reasons[0]
    assert "it is a folder" in reasons[1]
    assert "holds no transparency; choose .png" in reasons[2]
    assert report.total == report.pixels == 3 * 4 * 21 * 30


@pytest.mark.parametrize(("free", "noted"), [(12_100, False), (12_000, True)])
def test_probably_too_little_disk_space_is_noted_first(jobs, monkeypatch, free, noted):
    """Four results of 42x60 RGB pixels are 30,240 bytes; as PNGs of photographs 0.4 of that."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    report = run([(source, target) for source, target in jobs[:4]])
    first = json.loads(report.out.getvalue().splitlines()[0])
    assert (first["event"] == "note" and "are free; if" in first["note"]) == noted
    assert report.done_count == 4


@pytest.mark.parametrize(("suffix", "least"), [(".png", 32), (".tif", 32), (".jpg", 276)])
def test_certainly_too_little_disk_space_is_refused_first(jobs, monkeypatch, suffix, least):
    """Four results of 7,560 bytes each: Deflate needs at least 7.3 bytes for one, JPEG 68.9."""
    jobs = [(source, target.with_suffix(suffix)) for source, target in jobs[:4]]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=least - 1))
    with pytest.raises(RunError, match=r"free, and the results take at least .*; free some space"):
        run(jobs)
    assert not jobs[0][1].parent.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=least))
    assert run(jobs).done_count == 4


@pytest.mark.parametrize(
    ("result_options", "suffix", "message"),
    [
        ({"size": (20_000, 1)}, ".webp", "no more than 16383 pixels a side"),
        ({"depth": 16}, ".jpg", "holds 8 bits a channel, not 16"),
        ({"quality": 0}, ".webp", "quality 0 is not from 1 to 100"),
        ({"lossless": True}, ".jpg", "is not lossless; choose .png"),
    ],
)
def test_formats_that_cannot_store_the_result_are_refused(
    jobs, rng, result_options, suffix, message
):
    for source, _ in jobs[:2]:
        Image.fromarray(rng.integers(0, 256, (1, 200, 3), dtype=np.uint8)).save(source)
    report = run(
        [(source, target.with_suffix(suffix)) for source, target in jobs[:2]], **result_options
    )
    assert [message in reason for _, reason in report.failures] == [True, True]
    assert not jobs[0][1].parent.exists()


def test_a_damaged_frame_fails_only_its_animation(jobs, tmp_path, monkeypatch):
    def open_damaged(source):
        image = open_image(source)
        if source != jobs[1][0]:
            return image

        def strips():
            for frame in range(5):
                if frame == 2:
                    raise ValueError("it is damaged")
                yield np.zeros((21, 30, 3), np.uint8)

        return replace(image, frames=5, strips=strips)

    monkeypatch.setattr(upscale_images, "open_image", open_damaged)
    jobs[1] = (jobs[1][0], jobs[1][1].with_suffix(".webp"))
    report = run(jobs)
    ((name, reason),) = report.failures
    assert (name, "it is damaged" in reason) == (str(jobs[1][0]), True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{i}.png" for i in (0, 2, 3, 4, 5)
    ]


def test_a_frame_that_cannot_be_upscaled_fails_only_its_animation(jobs, tmp_path):
    class Failing(Twice):
        seen = 0

        def doubled(self, strip, progress):
            self.seen += 1
            if self.seen == 2:
                raise RunError("not finite")
            return super().doubled(strip, progress)

    frames = [Image.fromarray(frame) for frame in noise(4, 9, 9, 3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    report = run([(tmp_path / "a.webp", tmp_path / "out/a.webp"), *jobs], Failing())
    assert report.failures == [(str(tmp_path / "a.webp"), "not finite")]
    assert report.done_count == 6


def raising(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("read", MemoryError()),
        ("network", KeyError("a bug")),
        ("network", KeyboardInterrupt()),
        ("write", KeyError("a bug")),
        ("report", KeyboardInterrupt()),
    ],
)
def test_unexpected_exceptions_are_raised(jobs, tmp_path, monkeypatch, place, error):
    before, upscaler = threading.active_count(), Twice()
    if place == "write":
        monkeypatch.setattr(upscale_images, "write_rows", raising(error))
    if place == "network":
        monkeypatch.setattr(upscaler, "doubled", raising(error), raising=False)
    if place == "report":
        monkeypatch.setattr(Report, "done", raising(error))
    if place == "read":
        monkeypatch.setattr(
            upscale_images, "_next_frame", lambda *_: (raising(error)() for _ in range(1))
        )
    with pytest.raises(type(error)) as caught:
        run(jobs, upscaler)
    assert caught.value is error
    assert threading.active_count() == before
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("images", [1, 40])
def test_only_a_few_strips_are_in_memory(tmp_path, monkeypatch, images):
    """For any number of images, and with a slow writer."""
    alive, most, total = weakref.WeakSet(), [0], 800 // images

    class Array(np.ndarray):
        __hash__ = object.__hash__  # type: ignore[assignment]

    def strip():
        array = np.zeros((1, 2, 3), np.uint8).view(Array)
        alive.add(array)
        return array

    image = types.SimpleNamespace(
        name="a",
        height=total,
        width=2,
        bands=3,
        dtype=U8,
        extra=(),
        geo=None,
        frames=1,
        notes=(),
        metadata={},
        texts=(),
    )
    image.rows = lambda: (strip() for _ in range(total))
    monkeypatch.setattr(upscale_images, "open_image", lambda _: image)
    monkeypatch.setattr(upscale_images, "make_record", lambda *_: "")

    class Same(Twice):
        scale = 1

        def stream(self, images, *, progress=None):
            yield from images

    def write(_, strips: Strips, **__):
        for _ in strips:
            gc.collect(0)
            most[0] = max(most[0], len(alive))

    monkeypatch.setattr(upscale_images, "write_rows", write)
    jobs = [(Path(f"{i}.png"), tmp_path / f"{i}.png") for i in range(images)]
    assert run(jobs, Same()).done_count == images
    assert 10 < most[0] < 60


def test_standard_input_is_opened_once(tmp_path, monkeypatch):
    image_file(tmp_path / "a.png", "RGB")
    stdin = types.SimpleNamespace(buffer=io.BytesIO((tmp_path / "a.png").read_bytes()))
    monkeypatch.setattr(upscale_images.sys, "stdin", stdin)
    report = run([(Path("-"), tmp_path / "b.png")])
    assert report.done_count == 1
    np.testing.assert_array_equal(
        read(tmp_path / "b.png")[1], read(tmp_path / "a.png")[1].repeat(2, 0).repeat(2, 1)
    )
    monkeypatch.setattr(upscale_images.sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"")))
    ((name, reason),) = run([(Path("-"), tmp_path / "b.png")]).failures
    assert name == "standard input"
    assert reason.startswith("cannot be read as an image")


def test_videos_and_images_are_upscaled_in_one_command(jobs, tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "f.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        sound = output.add_stream("aac", rate=48000)
        for frame in noise(6, 16, 32, 3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.float32), "fltp", "mono")
        samples.sample_rate, samples.pts = 48000, 0
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
    (tmp_path / "bad.mp4").write_text("no video")
    videos = [(tmp_path / n, tmp_path / f"out/{n}") for n in ("bad.mp4", "f.mp4")]
    report = run([*videos, *jobs])
    assert [name for name, _ in report.failures] == [str(tmp_path / "bad.mp4")]
    assert report.done_count == 7
    assert report.pixels == report.total == 6 * 4 * 21 * 30 + 6 * 4 * 16 * 32
    with av.open(str(tmp_path / "out/f.mp4")) as video:
        assert [stream.type for stream in video.streams] == ["video", "audio"]
        assert video.streams.video[0].codec_context.width == 64
