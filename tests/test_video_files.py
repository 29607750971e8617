"""Tests of the upscale command with videos: sizes, depths, and resuming after a stop."""

import os
import re
from fractions import Fraction

import jax
import numpy as np
import pytest

av = pytest.importorskip("av")

from esrgan_jax.checkpoint import save_generator  # noqa: E402
from esrgan_jax.errors import InputError, RunError  # noqa: E402
from esrgan_jax.models.rrdb import RRDBNet  # noqa: E402
from esrgan_jax.upscale import main  # noqa: E402
from esrgan_jax.video import parts, writer  # noqa: E402
from esrgan_jax.video.parts import parts_folder  # noqa: E402
from tests.videos import STEADY, make, packets, times_of  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory, random_generator):
    """The path of an x2 network."""
    fields, params, _ = random_generator(np.random.default_rng(0), num_blocks=1, scale=2)
    params = jax.tree.map(lambda a: a * np.float32(0.2), params)
    path = tmp_path_factory.mktemp("models") / "a.npz"
    save_generator(path, RRDBNet(**fields), {"params": params})
    return path


def test_the_same_command_resumes_and_overwrite_restarts(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts, "FRAMES", 4)
    source, target = make(tmp_path / "a.mp4", sound="aac"), tmp_path / "b.mp4"
    whole = tmp_path / "whole.mp4"
    command = [str(source), f"--output={target}", f"--model={model}", "--progress=json"]
    main([*command[:1], f"--output={whole}", *command[2:]])
    array_to_frame, calls = writer.array_to_frame, []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) > 9:  # after two segments and a frame
            raise KeyboardInterrupt
        return array_to_frame(*arguments)

    def stopped(*more):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(writer, "array_to_frame", stop)
            with pytest.raises(KeyboardInterrupt):
                main([*command, *more])
        return sorted(path.name for path in parts_folder(target).glob("*.packets"))

    assert stopped() == ["000000000.4.packets", "000000004.4.packets"]
    assert not target.exists()
    capsys.readouterr()
    main(command)
    output = capsys.readouterr().out
    assert '"note": "continues after ' in output
    assert " of its 12 frames" in output
    assert times_of(target) == times_of(source)
    assert packets(target, "audio") == packets(source, "audio")
    assert not parts_folder(target).exists()
    target.unlink()
    stopped()
    main([*command, "--overwrite"])
    assert "continues" not in capsys.readouterr().out
    target.unlink()
    stopped()
    main([*command, "--quality=20"])
    assert "continues" not in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "b.mp4", "whole.mp4"]


def properties(path):
    """Returns (width, height, sample aspect, codec, pixel format) of a video."""
    with av.open(str(path)) as video:
        video_stream = video.streams.video[0]
        aspect = Fraction(video_stream.sample_aspect_ratio or 1)
        return (
            video_stream.width,
            video_stream.height,
            aspect,
            video_stream.codec_context.name,
            video_stream.pix_fmt,
        )


@pytest.mark.parametrize(
    ("option", "size", "aspect"),
    [
        ("--size=64x36", (64, 36), 1),  # 16:9
        ("--size=72x0", (72, 40), 1),  # shown as 16:9, of 72x58 with 64:45
        ("--size=0x36", (64, 36), 1),
        ("--scale=2", (144, 116), Fraction(64, 45)),
        ("--scale=0.5", (36, 29), Fraction(64, 45)),
    ],
)
def test_size_makes_square_pixels_and_scale_keeps_their_aspect(
    model, tmp_path, option, size, aspect
):
    frames = [np.full((58, 72, 3), 90, np.uint8)] * 2
    source = make(tmp_path / "a.mkv", frames, STEADY[:2], aspect=Fraction(64, 45))
    target = tmp_path / "b.mkv"
    main([str(source), f"--output={target}", f"--model={model}", option, "--progress=quiet"])
    assert properties(target)[:3] == (*size, aspect)


def test_size_is_that_of_the_rotated_video(model, tmp_path):
    frames = [np.full((58, 72, 3), 90, np.uint8)] * 2
    source = make(
        tmp_path / "a.mp4", frames, STEADY[:2], aspect=Fraction(64, 45), turn=(90, False, False)
    )
    target = tmp_path / "b.webm"
    main([str(source), f"--output={target}", f"--model={model}", "--size=36x0", "--progress=quiet"])
    assert properties(target)[:3] == (36, 64, 1)


@pytest.mark.parametrize(
    ("options", "target", "kind"),
    [
        ([], "b.mp4", ("h264", "yuv420p")),
        (["--depth=8"], "b.mkv", ("h264", "yuv420p")),
        (["--depth=10"], "b.mp4", ("hevc", "yuv420p10le")),
        (["--lossless"], "b.mkv", ("ffv1", "bgr0")),
        (["--lossless", "--depth=16"], "b.mkv", ("ffv1", "gbrp16le")),
    ],
)
def test_depth_and_lossless_choose_the_encoding(model, tmp_path, options, target, kind):
    source, target = make(tmp_path / "a.mp4", times=STEADY[:3]), tmp_path / target
    main([str(source), f"--output={target}", f"--model={model}", "--progress=quiet", *options])
    assert properties(target)[3:] == kind


@pytest.mark.parametrize(
    ("options", "target", "message"),
    [
        (["--lossless"], "b.mp4", "end the name in .mkv"),
        (["--lossless"], "b.webm", "end the name in .mkv"),
        (["--depth=16"], "b.mkv", "a depth of 16 bits is not supported: videos have 8 or 10"),
        (["--depth=32"], "b.mkv", "a depth of 32 bits"),
        (["--depth=32", "--lossless"], "b.mkv", "lossless videos have 8 or 16"),
        (["--lossless", "--quality=5"], "b.mkv", "leave out --lossless or --quality"),
        (["--quality=52"], "b.mkv", r"52 is not from 0 \(best\) to 51"),
    ],
)
def test_unsupported_depths_and_qualities_are_refused(
    model, tmp_path, capsys, options, target, message
):
    source, target = make(tmp_path / "a.mp4", times=STEADY[:3]), tmp_path / target
    command = [str(source), f"--output={target}", f"--model={model}", "--progress=json", *options]
    with pytest.raises((InputError, RunError)) as caught:
        main(command)
    assert re.search(message, f"{caught.value} {capsys.readouterr().out}")
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.kept("video-subtitles")
@pytest.mark.parametrize(("name", "codec"), [("b.mp4", "mov_text"), ("b.webm", "webvtt")])
def test_subtitles_are_converted(outcome, tmp_path, name, codec):
    source = make(tmp_path / "a.mkv", times=STEADY[:4], subtitles=[(40, 80, "one")])
    with av.open(str(outcome(source, name).path)) as video:
        assert video.streams.subtitles[0].codec_context.codec.name == codec


@pytest.mark.kept("video-change")
def test_an_interlaced_video_is_refused(outcome, tmp_path):
    source = make(tmp_path / "a.mp4", times=STEADY[:4], options={"x264-params": "tff=1"})
    assert "interlaced" in outcome(source, "b.mp4").failure
