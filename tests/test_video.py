"""Tests of reading and writing videos: times, streams, colours, rotation and failures."""

import os
import re
import sys
import threading
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

from esrgan_jax.errors import InputError, RunError  # noqa: E402
from esrgan_jax.video.streams import StreamId  # noqa: E402
from esrgan_jax.video.target import check_video_target  # noqa: E402
from esrgan_jax.video.video_file import VIDEO_SUFFIXES, open_video  # noqa: E402
from esrgan_jax.video.writer import write_video  # noqa: E402
from tests.videos import (  # noqa: E402
    HEIGHT,
    MS,
    SAME_SIZE,
    STEADY,
    UNSTEADY,
    WIDTH,
    arrays_of,
    damage,
    doubled,
    doubled_in_batches,
    images,
    make,
    packets,
    remux,
    times_of,
    upscaled,
)

KR_KB = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("upscale", [doubled, doubled_in_batches])
@pytest.mark.parametrize(
    ("source", "target", "options"),
    [
        ("a.mp4", "b.mp4", {"sound": "aac"}),
        ("a.mp4", "b.mp4", {"sound": "aac", "times": UNSTEADY}),
        ("a.mov", "b.mp4", {"times": UNSTEADY, "time_base": Fraction(1, 90000)}),
        ("a.mp4", "b.mp4", {"times": [1000 * i for i in range(30, 40)]}),
        ("a.mkv", "b.mp4", {"sound": "aac", "times": UNSTEADY}),
        ("a.mkv", "b.mkv", {"sound": "libopus", "times": UNSTEADY}),
        ("a.webm", "b.webm", {"sound": "libopus", "codec": "libvpx-vp9"}),
        ("a.avi", "b.mkv", {"codec": "mpeg4", "time_base": Fraction(1, 25)}),
    ],
)
def test_frame_times_and_audio_are_kept(tmp_path, source, target, options, upscale):
    source = make(tmp_path / source, **options)
    target = upscaled(source, tmp_path / target, upscale)
    video, upscaled_video = open_video(source), open_video(target)
    assert (video.height, video.width, video.dtype) == (HEIGHT, WIDTH, np.uint8)
    assert (upscaled_video.height, upscaled_video.width) == (2 * HEIGHT, 2 * WIDTH)
    times = times_of(source)
    assert times_of(target) == times
    assert video.frames == upscaled_video.frames == len(times) == len(options.get("times", STEADY))
    if "sound" in options:
        sound = [[(p[0], p[2]) for p in packets(video, "audio")] for video in (source, target)]
        assert sound[0] == sound[1]
    assert packets(target, "video")[-1][1] == packets(source, "video")[-1][1]
    with av.open(str(source)) as a, av.open(str(target)) as b:
        assert abs(a.duration - b.duration) < 25000  # µs, about an audio packet
        assert (a.streams.audio and a.streams.audio[0].language) == (
            b.streams.audio and b.streams.audio[0].language
        )
    for before, after in zip(arrays_of(source)[1], arrays_of(target)[1], strict=True):
        error = np.abs(before.repeat(2, 0).repeat(2, 1).astype(int) - after)
        assert error.mean() < 2.5


def test_all_streams_are_shifted_equally_for_matroska(tmp_path):
    """AAC in MP4 starts before zero, which Matroska cannot store."""
    source = make(tmp_path / "a.mp4", sound="aac", times=UNSTEADY)
    target = upscaled(source, tmp_path / "b.mkv")
    shift = packets(target, "audio")[0][0] - packets(source, "audio")[0][0]
    assert shift > 0
    for before, after in zip(times_of(source), times_of(target), strict=True):
        assert abs(before + shift - after) <= MS


def test_audio_packets_with_repeated_times_are_kept(tmp_path):
    plain = make(tmp_path / "plain.mkv", sound="libopus")
    source = remux(plain, tmp_path / "a.mkv", stutter=True)
    plain.unlink()
    target = upscaled(source, tmp_path / "b.mp4")
    before, after = packets(source, "audio"), packets(target, "audio")
    assert before[0][0] == before[1][0]
    assert [data for *_, data in after] == [data for *_, data in before]


def test_a_broadcast_starts_at_zero(tmp_path):
    source = make(
        tmp_path / "a.ts", time_base=Fraction(1, 90000), times=[36000000 + t for t in UNSTEADY]
    )
    times = times_of(source)
    assert times[0] >= 36000
    target = upscaled(source, tmp_path / "b.mp4")
    assert times_of(target) == [time - times[0] for time in times]


def test_subtitles_chapters_tags_and_attachments_are_kept(tmp_path):
    words = [(100, 200, "Grüße"), (400, 60, "<i>zwei</i>")]
    plain = make(
        tmp_path / "plain.mkv",
        subtitles=words,
        sound="libopus",
        title="Ein Video",
        chapter="Anfang",
        metadata={"title": "Bild", "language": "ita", "NUMBER_OF_BYTES": "7"},
    )
    source = remux(plain, tmp_path / "a.mkv", {"font.ttf": "font/ttf", "cover.png": "image/png"})
    plain.unlink()
    target = upscaled(source, tmp_path / "b.mkv", software="esrgan_jax 1")
    assert packets(target, "subtitles") == [
        (begin * MS, length * MS, text.encode()) for begin, length, text in words
    ]
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert after.metadata["title"] == "Ein Video"
        assert after.metadata["COMMENT"] == "esrgan_jax 1"
        assert [c["metadata"] for c in after.chapters()] == [{"title": "Anfang"}]
        for kind in ("video", "audio", "subtitle"):
            a = getattr(before.streams, "subtitles" if kind == "subtitle" else kind)[0]
            b = getattr(after.streams, "subtitles" if kind == "subtitle" else kind)[0]
            assert (a.language, a.disposition) == (b.language, b.disposition), kind
        assert after.streams.subtitles[0].disposition & av.stream.Disposition.forced
        assert after.streams.video[0].metadata["title"] == "Bild"
        assert "NUMBER_OF_BYTES" not in after.streams.video[0].metadata
        assert [s.data for s in after.streams if s.type == "attachment"] == [b"font.ttf"]
        cover = next(s for s in after.streams.video if s.index != after.streams.video[0].index)
        assert cover.disposition & av.stream.Disposition.attached_pic
    assert open_video(target).others[-2:] == open_video(source).others[-2:]


def test_tags_that_are_not_utf8_are_copied_unchanged(tmp_path):
    source = make(tmp_path / "a.mkv", times=STEADY[:3], title="Gr__e")
    source.write_bytes(source.read_bytes().replace(b"Gr__e", "Grüße".encode("latin-1")))
    target = upscaled(source, tmp_path / "b.mp4")
    assert "Grüße".encode("latin-1") in target.read_bytes()


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ((0, False, False), lambda a: a),
        ((90, False, False), lambda a: np.rot90(a)),
        ((180, False, False), lambda a: np.rot90(a, 2)),
        ((-90, False, False), lambda a: np.rot90(a, 3)),
        ((0, True, False), lambda a: a[:, ::-1]),
        ((90, True, False), lambda a: np.rot90(a)[:, ::-1]),
    ],
)
def test_rotation_is_applied_and_its_mark_removed(tmp_path, turn, expected):
    source = make(tmp_path / "a.mp4", turn=turn, times=STEADY[:3], aspect=Fraction(4, 3))
    image = expected(next(images(1))).astype(int)
    video, (first, *_) = arrays_of(source)
    assert (video.height, video.width) == image.shape[:2]
    assert np.abs(first - image).mean() < 4
    target = upscaled(source, tmp_path / "b.mp4")
    video, (first, *_) = arrays_of(target)
    assert not video.look.transpose
    assert not video.look.flip_rows
    assert not video.look.flip_columns
    assert video.aspect == (Fraction(3, 4) if turn[0] in (90, -90) else Fraction(4, 3))
    assert np.abs(first - image.repeat(2, 0).repeat(2, 1)).mean() < 4


@pytest.mark.parametrize(
    ("matrix", "color_range", "deep", "target", "size", "read_as"),
    [
        (1, 1, False, "b.mp4", (24, 32), (1, 1)),
        (5, 1, False, "b.mkv", (24, 32), (5, 1)),
        (6, 1, False, "b.webm", (24, 32), (6, 1)),
        (1, 2, False, "b.mp4", (24, 32), (1, 2)),
        (6, 2, False, "b.webm", (24, 32), (6, 2)),
        (2, 0, False, "b.mp4", (24, 32), (6, 1)),
        (2, 0, False, "b.mp4", (16, 1280), (1, 1)),
        (1, 1, True, "b.mp4", (24, 32), (1, 1)),
        (9, 1, True, "b.mkv", (24, 32), (9, 1)),
        (9, 1, True, "b.webm", (24, 32), (9, 1)),
        (9, 2, True, "b.mp4", (24, 32), (9, 2)),
    ],
)
def test_colors_and_their_tags_are_kept(tmp_path, matrix, color_range, deep, target, size, read_as):
    bits, peak = (10, 65535) if deep else (8, 255)
    kr, kb = KR_KB[read_as[0]]
    rgb = np.array([0.8, 0.25, 0.1])
    y = rgb @ [kr, 1 - kr - kb, kb]
    colour = np.array([y, (rgb[2] - y) / (2 - 2 * kb), (rgb[0] - y) / (2 - 2 * kr)])
    scale = np.array([219, 224, 224]) * 2 ** (bits - 8)
    if read_as[1] == 2:
        scale = np.array([2**bits - 1] * 3)
    zero = np.array([16 * (read_as[1] == 1), 128, 128]) * 2 ** (bits - 8)
    stored = np.rint(colour * scale + zero)
    kind = "yuv420p10le" if deep else "yuv420p"

    def flat():
        frame = av.VideoFrame(size[1], size[0], kind)
        for plane, value in zip(frame.planes, stored, strict=True):
            plane.update(np.full(plane.buffer_size // (1 + deep), value, f"<u{1 + deep}"))
        return frame

    transfer = 16 if matrix == 9 else 2
    tags = {"colorspace": matrix, "color_range": color_range, "color_trc": transfer}
    frames = [flat() for _ in range(3)]
    source = make(tmp_path / "a.mp4", frames, STEADY[:3], kind=kind, tags=tags)
    video, (first, *_) = arrays_of(source)
    assert video.dtype == first.dtype == (np.uint16 if deep else np.uint8)
    assert np.abs(first / peak - rgb).max() < 2 / 255
    upscaled(source, tmp_path / target)
    with av.open(str(tmp_path / target)) as written:
        frame = next(written.decode(video=0))
    assert (frame.colorspace, frame.color_range) == read_as
    assert frame.color_primaries not in (0, 2)
    assert frame.color_trc == (16 if matrix == 9 else 1 if read_as[0] == 1 else 6)
    assert frame.format.name.replace("j", "") == kind
    for plane, value in zip(frame.planes, stored, strict=True):
        assert np.abs(np.frombuffer(plane, f"<u{1 + deep}")[0] - value) <= 2


def test_ten_bits_keep_their_range_and_precision(tmp_path):
    ramp = np.tile(np.linspace(0, 1023, 128).round(), (32, 1))
    frame = av.VideoFrame(128, 32, "gray10le")
    frame.planes[0].update(ramp.astype("<u2").tobytes())
    frame.color_range = 2
    tags = {"color_range": 2, "colorspace": 1}
    source = make(tmp_path / "a.mp4", [frame], [0], kind="gray10le", tags=tags, options={"qp": "0"})
    video, (first,) = arrays_of(source)
    assert video.look.bits == 10
    assert (first.min(), first.max()) == (0, 65535)
    assert np.abs(first[8].mean(-1) - ramp[8] / 1023 * 65535).max() < 70


def test_static_hdr_metadata_is_kept(tmp_path):
    mastering = (
        "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    )
    options = {"x265-params": f"log-level=error:{mastering}:max-cll=1000,400"}
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    deep = {"codec": "libx265", "kind": "yuv420p10le", "tags": tags, "options": options}
    source = make(tmp_path / "a.mkv", times=STEADY[:3], **deep)
    look = open_video(source).look
    assert look.display == pytest.approx(
        (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000)
    )
    assert look.light == (1000, 400)
    for name in ("b.mp4", "b.webm"):
        target = upscaled(source, tmp_path / name)
        written = open_video(target).look
        assert written.display == pytest.approx(look.display, rel=0.4)  # SVT keeps 2^-14 cd/m²
        assert (written.light, written.transfer, written.bits) == (look.light, 16, 10)
        target.unlink()


@pytest.mark.parametrize("threaded", [False, True])
def test_only_a_few_frames_are_in_memory(tmp_path, threaded):
    source = make(tmp_path / "a.mp4", times=[40 * i for i in range(120)], sound="aac")
    video = open_video(source)
    taken, yielded, peak = 0, 0, 0

    def upscale(frames):
        nonlocal taken, yielded, peak
        for frame in frames:
            taken += 1
            peak = max(peak, taken - yielded)
            yield frame
            yielded += 1

    def in_threads(frames):
        found = []
        while not found or found[-1] is not None:
            thread = threading.Thread(target=lambda: found.append(next(frames, None)))
            thread.start()
            thread.join()
            yield from upscale(found[-1:] if found[-1] is not None else [])

    write_video(
        video,
        tmp_path / "b.mp4",
        in_threads if threaded else upscale,
        **SAME_SIZE,
    )
    assert taken == yielded == video.frames == 120
    assert peak == 1


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), KeyboardInterrupt()])
@pytest.mark.parametrize("after", [0, 5])
def test_an_exception_of_upscale_is_raised_and_leaves_no_files(tmp_path, failure, after):
    source = make(tmp_path / "a.mp4", sound="aac")

    def failing(frames):
        for i, frame in enumerate(doubled(frames)):
            if i == after:
                raise failure
            yield frame

    with pytest.raises(type(failure)) as caught:
        upscaled(source, tmp_path / "b.mp4", failing)
    assert caught.value is failure
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_thread_that_reads_ahead_ends_with_write_video(tmp_path):
    source = make(tmp_path / "a.mp4", times=[40 * i for i in range(300)])
    taken, threads = [], []

    def failing(frames):
        threads.append(threading.Thread(target=lambda: taken.extend(1 for _ in frames)))
        threads[0].start()
        raise RuntimeError("out of memory")
        yield

    with pytest.raises(RuntimeError, match="out of memory"):
        upscaled(source, tmp_path / "b.mp4", failing)
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert os.listdir(tmp_path) == ["a.mp4"]


@pytest.mark.parametrize(
    ("upscale", "message"),
    [
        (lambda frames: frames, r"uint8 \(24, 32, 3\), not uint8 \(48, 64, 3\)"),
        (lambda frames: (f / 255 for f in doubled(frames)), "float64"),
        (lambda frames: (f for f, _ in zip(doubled(frames), range(3), strict=False)), "fewer"),
        (lambda frames: (g for f in doubled(frames) for g in (f, f)), "more"),
    ],
)
def test_wrong_results_of_upscale_are_refused(tmp_path, upscale, message):
    source = make(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match=message):
        upscaled(source, tmp_path / "b.mp4", upscale)
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_odd_sizes_are_kept(tmp_path):
    frames = list(images(3, 25, 33))
    source = make(tmp_path / "a.mkv", frames, STEADY[:3], codec="libvpx-vp9")
    video = open_video(source)
    size = {"height": 25, "width": 33}
    for name, kind, notes in (("b.mp4", "yuv444p", 1), ("b.webm", "yuv420p", 0)):
        assert len(check_video_target(video, tmp_path / name, **size)) == notes
        write_video(video, tmp_path / name, iter, **size)
        written, arrays = arrays_of(tmp_path / name)
        assert (written.height, written.width, len(arrays)) == (25, 33, 3)
        assert np.abs(arrays[0].astype(int) - frames[0]).mean() < 4
        with av.open(str(tmp_path / name)) as video_b:
            assert video_b.streams.video[0].pix_fmt == kind


def test_check_video_target_refuses_what_a_format_cannot_store(tmp_path):
    source = make(tmp_path / "a.mkv", sound="aac", subtitles=[(0, 100, "eins")])
    video = open_video(source)
    assert check_video_target(video, tmp_path / "b.mkv", **SAME_SIZE) == []
    assert check_video_target(video, tmp_path / "b.mp4", **SAME_SIZE) == []
    with pytest.raises(InputError, match=r"hold stream 1 \(audio, aac\) of .*\.mp4 or \.mkv"):
        check_video_target(video, tmp_path / "b.webm", **SAME_SIZE)
    with_image_subtitles = replace(video, others=(StreamId(1, "subtitle", "pgssub"),))
    with pytest.raises(InputError, match=r"stream 1 \(subtitle, pgssub\).*end the name in \.mkv"):
        check_video_target(with_image_subtitles, tmp_path / "b.mp4", **SAME_SIZE)
    with pytest.raises(InputError, match=r"end in \.mp4, \.mkv, \.webm"):
        check_video_target(video, tmp_path / "b.avi", **SAME_SIZE)
    with pytest.raises(InputError, match=r"quality 52 is not from 0 \(best\) to 51"):
        check_video_target(video, tmp_path / "b.mkv", quality=52, **SAME_SIZE)
    with pytest.raises(InputError, match="would overwrite"):
        check_video_target(video, source, **SAME_SIZE)
    wide = make(tmp_path / "wide.mp4", aspect=Fraction(64, 45))
    with pytest.raises(InputError, match="aspect ratio 64/45"):
        check_video_target(open_video(wide), tmp_path / "b.webm", **SAME_SIZE)
    assert ".mkv" in VIDEO_SUFFIXES


def test_a_lower_quality_makes_a_smaller_file(tmp_path, rng):
    noise = [rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(3)]
    source = make(tmp_path / "a.mp4", noise, STEADY[:3])
    sizes = [
        upscaled(source, tmp_path / "b.mp4", quality=quality).stat().st_size
        for quality in (1, None, 40)
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("depth", [None, 16])
def test_lossless_keeps_every_value(tmp_path, rng, depth):
    video = open_video(make(tmp_path / "a.mp4", times=STEADY[:4]))
    dtype, peak, kind = (np.uint16, 2**16, "gbrp16le") if depth else (np.uint8, 256, "rgb24")
    expected_frames = rng.integers(0, peak, (4, HEIGHT + 1, WIDTH + 3, 3), dtype=dtype)
    size = {"height": HEIGHT + 1, "width": WIDTH + 3}
    target = tmp_path / "b.mkv"
    options = {"lossless": True, "depth": depth}
    assert check_video_target(video, target, **size, **options) == []
    write_video(
        video,
        target,
        lambda fs: (g for _, g in zip(fs, expected_frames, strict=True)),
        **size,
        **options,
    )
    with av.open(str(target)) as written:
        for frame, expected in zip(written.decode(video=0), expected_frames, strict=True):
            found = frame.to_ndarray(format=kind)
            np.testing.assert_array_equal(found, expected)
            assert frame.color_primaries == video.look.primaries
    assert times_of(target) == times_of(video.path)


def test_mp4_starts_with_its_index(tmp_path):
    data = upscaled(make(tmp_path / "a.mp4"), tmp_path / "b.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_damage_is_reported_with_its_time(tmp_path):
    times = [40 * i for i in range(100)]
    source = make(tmp_path / "a.webm", codec="libvpx-vp9", times=times)
    damage(source, spoil=30)
    video = open_video(source)
    notes = write_video(video, tmp_path / "b.mkv", iter, **SAME_SIZE)
    assert len(notes) == 1
    assert re.match(r"\d+ damaged packets?, the first at 0:00:01", notes[0])
    kept = times_of(tmp_path / "b.mkv")
    assert kept[:30] == [time * MS for time in times[:30]]
    assert set(kept) < {time * MS for time in times}
    source = make(tmp_path / "a.mkv", times=times)
    damage(source, cut=source.stat().st_size // 2)
    with pytest.raises(InputError, match=r"cut off: of 0:00:04 it contains 0:00:0[12]"):
        open_video(source)
    source = make(tmp_path / "a.mp4", times=times)
    damage(source, cut=source.stat().st_size // 2)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be read as a video: \w+"):
        open_video(source)


def test_files_that_are_not_videos_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_video(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(InputError, match=r"a\.mp4: cannot be read as a video: \w+"):
        open_video(tmp_path / "a.mp4")
    with av.open(str(tmp_path / "b.mp4"), "w") as output:
        audio = output.add_stream("aac", rate=48000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), "fltp", "mono")
        samples.sample_rate = 48000
        output.mux(audio.encode(samples))
        output.mux(audio.encode(None))
    with pytest.raises(InputError, match="no video stream"):
        open_video(tmp_path / "b.mp4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"x264-params": "tff=1"}}, "interlaced"),
        ({"tags": {"colorspace": 8}}, "colour matrix"),
        ({"turn": (45,)}, "angle"),
    ],
)
def test_unsupported_videos_are_refused(tmp_path, options, message):
    source = make(tmp_path / "a.mp4", times=STEADY[:3], **options)
    with pytest.raises(InputError, match=rf"a\.mp4: cannot be upscaled as a video: .*{message}"):
        open_video(source)


def test_transparency_is_noted(tmp_path):
    frame = av.VideoFrame(WIDTH, HEIGHT, "argb")
    source = make(tmp_path / "a.mov", [frame], [0], codec="qtrle", kind="argb")
    assert open_video(source).notes == ("its transparency is dropped",)


def test_missing_folders_are_created(tmp_path):
    video = open_video(make(tmp_path / "a.mp4"))
    write_video(video, tmp_path / "new" / "one" / "b.mp4", iter, **SAME_SIZE)
    assert open_video(tmp_path / "new" / "one" / "b.mp4").frames == video.frames
    with pytest.raises(RunError, match=r"b\.mp4: could not be written: Not a directory"):
        write_video(video, tmp_path / "a.mp4" / "none" / "b.mp4", iter, **SAME_SIZE)
    with pytest.raises(InputError, match=r"b\.mp4: the encoder libx265 cannot write .* 20000×24"):
        check_video_target(video, tmp_path / "b.mp4", height=HEIGHT, width=20000)


def test_without_pyav_the_message_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"videos need PyAV, .*: pip install 'av<20'"):
        open_video(tmp_path / "a.mp4")
