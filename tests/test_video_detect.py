"""Tests of which files are recognised as videos by their content."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

av = pytest.importorskip("av")

from esrgan_jax.batch.jobs import plan  # noqa: E402
from esrgan_jax.batch.passed_over import passed_over  # noqa: E402
from esrgan_jax.errors import InputError  # noqa: E402
from esrgan_jax.upscale import main  # noqa: E402
from esrgan_jax.video.detect import is_video  # noqa: E402
from esrgan_jax.video.target import check_video_target  # noqa: E402
from esrgan_jax.video.video_file import open_video  # noqa: E402
from esrgan_jax.video.writer import write_video  # noqa: E402
from tests.videos import doubled, images, make, times_of  # noqa: E402

FRAMES = [av.VideoFrame.from_ndarray(frame, format="rgb24") for frame in images(12, 48, 64)]


def video_of(path, container, codec, kind="yuv420p", options=None):
    """Writes 12 frames at 25 fps; the container need not match the suffix."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, kind
        stream.bit_rate = 4_000_000
        for i, frame in enumerate(FRAMES):
            frame = frame.reformat(format=kind)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


KINDS = [
    ("a.vob", "vob", "mpeg2video"),
    ("a.mpeg", "mpeg", "mpeg1video"),
    ("a.mxf", "mxf", "mpeg2video"),
    ("a.asf", "asf", "wmv2"),
    ("a.m2v", "mpeg2video", "mpeg2video"),
    ("a.h264", "h264", "libx264"),
    ("a.hevc", "hevc", "libx265"),
    ("a.3gp", "3gp", "libx264"),
    ("a.flv", "flv", "flv"),
    ("a.mts", "mpegts", "libx264"),
    ("a.y4m", "yuv4mpegpipe", "rawvideo"),
    ("a.nut", "nut", "ffv1"),
    ("a.ivf", "ivf", "libvpx-vp9"),
    ("a.bin", "mpegts", "mpeg2video"),
    ("a", "mp4", "libx264"),
    ("a.mp4.bak", "matroska", "libx264"),
    ("a.tmp", "avi", "mpeg4"),
]


@pytest.mark.parametrize(("name", "container", "codec"), KINDS)
def test_videos_are_recognised_by_content(tmp_path, name, container, codec):
    options = {"x265-params": "log-level=error"} if codec == "libx265" else None
    source = video_of(tmp_path / name, container, codec, options=options)
    assert is_video(source)
    assert plan([tmp_path / "a*"], tmp_path / "out")[0][1].suffix == ".mp4"
    video = open_video(source)
    assert (video.frames, video.height, video.width) == (12, 48, 64)
    target = tmp_path / "b.mp4"
    assert check_video_target(video, target, height=96, width=128) == []
    write_video(video, target, doubled, height=96, width=128)
    times = times_of(target)
    assert [round(25 * (time - times[0]), 2) for time in times] == list(range(12))
    with av.open(str(target)) as written:
        for frame, original in zip(written.decode(video=0), FRAMES, strict=True):
            error = frame.to_ndarray(format="rgb24")[::2, ::2] - original.to_ndarray().astype(int)
            assert np.abs(error).mean() < 8


def animation(path, kind, **options):
    frames = [Image.fromarray(frame) for frame in images(3)]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "avif", "tiff", "mpo", "jpeg", "bmp"])
@pytest.mark.parametrize("named", [True, False])
def test_images_and_animations_are_not_videos(tmp_path, kind, named):
    path = tmp_path / (f"a.{kind}" if named else "a.dat")
    if kind in ("jpeg", "bmp"):
        Image.fromarray(next(images(1))).save(path, kind)
    else:
        animation(path, kind)
    assert not is_video(path)


@pytest.mark.parametrize("name", ["a.txt", "a.nfo", "a.ans", "a.dat", "a.srt", "a.m3u8", "a.xmp"])
def test_texts_are_not_videos(tmp_path, name):
    path = tmp_path / name
    path.write_text("#EXTM3U\n1\n00:00:01,000 --> 00:00:02,000\nHello\n" * 40)
    assert not is_video(path)
    path.write_bytes(np.random.default_rng(0).bytes(50_000))
    assert not is_video(path)
    path.write_bytes(b"")
    assert not is_video(path)


@pytest.mark.parametrize("cover", [False, True])
def test_audio_with_or_without_a_cover_is_not_a_video(tmp_path, cover):
    path = tmp_path / "a.mka"
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("aac", rate=48000)
        if cover:
            Image.fromarray(next(images(1))).save(tmp_path / "c.png")
            output.add_attachment("cover.png", "image/png", (tmp_path / "c.png").read_bytes())
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
        samples.sample_rate = 48000
        output.mux(stream.encode(samples))
        output.mux(stream.encode(None))
    assert not is_video(path)


def test_a_single_frame_in_a_video_container_is_not_a_video(tmp_path):
    path = make(tmp_path / "a.mkv", times=[0])
    path = path.rename(tmp_path / "a.dat")
    assert not is_video(path)


def test_videos_are_found_by_patterns_but_not_in_folders(tmp_path):
    video_of(tmp_path / "a.vob", "vob", "mpeg2video")
    video_of(tmp_path / "clip", "mp4", "libx264")
    (tmp_path / "notes.txt").write_text("Hello")
    Image.fromarray(next(images(1))).save(tmp_path / "c.png")
    found = [source.name for source, _ in plan([tmp_path], tmp_path / "out")]
    assert found == ["c.png"]
    note = "2 videos are passed over; name videos to upscale them"
    assert passed_over(tmp_path, tmp_path / "out") == note
    found = [source.name for source, _ in plan([tmp_path / "*"], tmp_path / "out")]
    assert found == ["a.vob", "c.png", "clip"]
    jobs = plan([tmp_path / "*"], tmp_path / "out", extension=".mkv")
    assert [target.name for _, target in jobs] == ["a.mkv", "c.png", "clip.mkv"]


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("a.vob", "jpg", "--format=jpg is for images, and each input is a video"),
        ("c.png", "mkv", "--format=mkv is for videos, and each input is an image"),
        ("a.vob", "avi", r"--format=avi: choose one of .*\.mkv"),
    ],
)
def test_a_format_that_fits_no_input_is_refused(tmp_path, name, option, message):
    video_of(tmp_path / "a.vob", "vob", "mpeg2video")
    Image.fromarray(next(images(1))).save(tmp_path / "c.png")
    with pytest.raises(InputError, match=message):
        main([str(tmp_path / name), f"--output={tmp_path / 'out'}", f"--format={option}"])
