"""Tests of the rows on videos in the table of docs/formats.md."""

import re
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

from esrgan_jax.video.video_file import open_video  # noqa: E402
from tests.test_video_join import trimmed  # noqa: E402
from tests.videos import (  # noqa: E402
    HEIGHT,
    STEADY,
    UNSTEADY,
    WIDTH,
    damage,
    images,
    make,
    packets,
    remux,
    times_of,
)

THREE_TIMES = STEADY[:3]
HDR = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
MASTERING = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


@pytest.mark.kept("video-aspect")
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv"])
def test_sample_aspect_is_kept(outcome, tmp_path, target):
    source = make(tmp_path / "a.mp4", times=THREE_TIMES, aspect=Fraction(4, 3))
    assert open_video(outcome(source, target).path).aspect == Fraction(4, 3)


@pytest.mark.kept("video-aspect-webm")
def test_sample_aspect_is_refused_for_webm(outcome, tmp_path):
    source = make(tmp_path / "a.mp4", times=THREE_TIMES, aspect=Fraction(4, 3))
    assert "cannot store the pixel aspect ratio 4/3" in outcome(source, "b.webm").failure


@pytest.mark.kept("video-rotation")
def test_rotation_is_applied(outcome, tmp_path):
    source = make(tmp_path / "a.mp4", times=THREE_TIMES, turn=(90, False, False))
    video = open_video(outcome(source, "b.mp4").path)
    assert (video.height, video.width) == (2 * WIDTH, 2 * HEIGHT)
    assert not video.look.transpose


@pytest.mark.kept("video-angle")
def test_rotation_by_other_angles_is_refused(outcome, tmp_path):
    source = make(tmp_path / "a.mp4", times=THREE_TIMES, turn=(45,))
    assert "not a multiple of 90 degrees" in outcome(source, "b.mp4").failure


@pytest.mark.kept("video-times")
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.webm"])
def test_a_variable_frame_rate_is_kept(outcome, tmp_path, target):
    source = make(tmp_path / "a.mp4", times=UNSTEADY)
    assert times_of(outcome(source, target).path) == times_of(source)


@pytest.mark.kept("video-edit-list")
def test_frames_hidden_by_an_edit_list_are_dropped(outcome, tmp_path):
    source = trimmed(tmp_path / "a.mp4")
    assert len(times_of(outcome(source, "b.mp4").path)) == 20  # of 30


@pytest.mark.kept("video-audio")
def test_audio_is_copied(outcome, tmp_path):
    source = make(tmp_path / "a.mkv", times=THREE_TIMES, sound="libopus")
    found = outcome(source, "b.webm").path
    assert packets(found, "audio") == packets(source, "audio")


@pytest.mark.kept("video-audio-other")
def test_audio_that_the_container_cannot_store_is_refused(outcome, tmp_path):
    source = make(tmp_path / "a.mkv", times=THREE_TIMES, sound="aac")
    message = "a .webm file cannot hold stream 1 (audio, aac)"
    assert message in outcome(source, "b.webm").failure


def image_subtitles(path, codec):
    """Writes a video with one packet of image subtitles; for PGS an empty composition."""
    data = b"\x16\x00\x0b" + bytes(11) + b"\x80\x00\x00" if "PGS" in codec else b"image"
    with av.open(str(path), "w") as output:
        video_stream = output.add_stream("libx264", rate=25)
        video_stream.width, video_stream.height, video_stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        text = output.add_stream("ass" if codec == "S_HDMV/PGS" else "dvdsub")
        text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        text.time_base = text.codec_context.time_base = Fraction(1, 1000)
        output.start_encoding()
        shown = av.Packet(data)
        shown.stream, shown.time_base, shown.pts = text, Fraction(1, 1000), 40
        shown.dts, shown.duration = 40, 80
        output.mux(shown)
        for image in images(3):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            output.mux(video_stream.encode(frame))
        output.mux(video_stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"S_TEXT/ASS", codec.encode()))
    return path


@pytest.mark.kept("video-image-subtitles")
@pytest.mark.parametrize(
    ("codec", "target", "name"),
    [
        ("S_HDMV/PGS", "b.mkv", "pgssub"),
        ("S_VOBSUB", "b.mkv", "dvdsub"),
        ("S_VOBSUB", "b.mp4", "dvdsub"),
    ],
)
def test_image_subtitles_are_copied(outcome, tmp_path, codec, target, name):
    source = image_subtitles(tmp_path / "a.mkv", codec)
    found = outcome(source, target).path
    with av.open(str(found)) as video:
        assert video.streams.subtitles[0].codec_context.codec.name == name
    assert packets(found, "subtitles") == packets(source, "subtitles")


@pytest.mark.kept("video-image-subtitles-other")
@pytest.mark.parametrize(
    ("codec", "target", "name"),
    [
        ("S_HDMV/PGS", "b.mp4", "pgssub"),
        ("S_HDMV/PGS", "b.webm", "pgssub"),
        ("S_VOBSUB", "b.webm", "dvdsub"),
    ],
)
def test_image_subtitles_that_the_container_cannot_store_are_refused(
    outcome, tmp_path, codec, target, name
):
    failure = outcome(image_subtitles(tmp_path / "a.mkv", codec), target).failure
    assert f"a {target[1:]} file cannot hold stream 1 (subtitle, {name})" in failure
    assert "end the name in" in failure


@pytest.mark.kept("video-styles")
def test_styles_of_subtitles_are_dropped_with_a_note(outcome, tmp_path):
    plain = make(tmp_path / "a.mkv", times=THREE_TIMES, subtitles=[(40, 80, "one")])
    source = tmp_path / "c.mkv"
    with av.open(str(plain)) as original, av.open(str(source), "w") as output:
        video_stream = output.add_stream_from_template(original.streams.video[0])
        text = output.add_stream("ass")
        text.codec_context.subtitle_header = b"[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
        text.time_base = text.codec_context.time_base = Fraction(1, 1000)
        output.start_encoding()
        words = av.Packet(b"0,0,Default,,0,0,0,,one")
        words.stream, words.time_base, words.pts = text, Fraction(1, 1000), 40
        words.dts, words.duration = 40, 80
        output.mux(words)
        for packet in original.demux(video=0):
            if packet.size:
                packet.stream = video_stream
                output.mux(packet)
    result = outcome(source, "b.mp4")
    assert re.match(r"the styles of stream 1 \(subtitle, (ass|ssa)\) are", result.notes[0])


@pytest.mark.kept("video-tags")
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv"])
def test_tags_and_chapters_are_kept(outcome, tmp_path, target):
    source = make(tmp_path / "a.mkv", title="Ein Video", chapter="Anfang", sound="aac")
    with av.open(str(outcome(source, target).path)) as video:
        assert video.metadata["title"] == "Ein Video"
        assert [c["metadata"]["title"] for c in video.chapters()] == ["Anfang"]
        assert video.streams.audio[0].language == "fra"


@pytest.mark.kept("video-timecode")
def test_the_time_code_is_kept(outcome, tmp_path):
    source = make(tmp_path / "a.mov", times=THREE_TIMES, timecode="01:02:03:04")
    with av.open(str(outcome(source, "b.mp4").path)) as video:
        assert "01:02:03:04" in [s.metadata.get("timecode") for s in video.streams]


@pytest.mark.kept("video-attachments")
def test_attachments_are_kept_in_mkv(outcome, tmp_path):
    plain = make(tmp_path / "plain.mkv", times=THREE_TIMES)
    source = remux(plain, tmp_path / "a.mkv", {"font.ttf": "font/ttf"})
    with av.open(str(outcome(source, "b.mkv").path)) as video:
        assert [s.data for s in video.streams if s.type == "attachment"] == [b"font.ttf"]


@pytest.mark.kept("video-attachments-other")
@pytest.mark.parametrize("target", ["b.mp4", "b.webm"])
def test_attachments_are_dropped_with_a_note_in_other_containers(outcome, tmp_path, target):
    plain = make(tmp_path / "plain.mkv", times=THREE_TIMES)
    source = remux(plain, tmp_path / "a.mkv", {"font.ttf": "font/ttf"})
    (note,) = outcome(source, target).notes
    assert f"dropped, since {target[1:]} cannot hold it: stream 1 (attachment" in note


@pytest.mark.kept("video-colors")
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.webm"])
def test_color_tags_are_kept(outcome, tmp_path, target):
    tags = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}
    source = make(tmp_path / "a.mp4", times=THREE_TIMES, tags=tags)
    with av.open(str(outcome(source, target).path)) as video:
        frame = next(video.decode(video=0))
    found = frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range
    assert found == (1, 1, 1, 1)


def hdr(path):
    params = f"log-level=error:{MASTERING}:max-cll=1000,400"
    deep = {"codec": "libx265", "kind": "yuv420p10le", "tags": HDR}
    return make(path, times=THREE_TIMES, options={"x265-params": params}, **deep)


@pytest.mark.kept("video-hdr")
@pytest.mark.parametrize("target", ["b.mp4", "b.mkv", "b.webm"])
def test_static_hdr_metadata_is_kept(outcome, tmp_path, target):
    look = open_video(outcome(hdr(tmp_path / "a.mkv"), target).path).look
    display = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000)
    assert look.display == pytest.approx(display, rel=0.4)  # SVT keeps 2^-14 cd/m²
    assert (look.light, look.transfer, look.primaries, look.bits) == ((1000, 400), 16, 9, 10)


def hdr10_plus() -> bytes:
    """Returns an SEI message of H.265 with minimal SMPTE ST 2094-40 data."""
    fields = [(1, 8), (1, 2), (400, 27), (0, 1), *[(50000, 17)] * 3, (9000, 17), (1, 4), (50, 7)]
    fields += [(40000, 17), (5, 10), (0, 1), (0, 1), (0, 1)]
    bits = "".join(f"{value:0{length}b}" for value, length in fields)
    bits += "0" * (-len(bits) % 8)
    data = bytes.fromhex("b5003c000104") + int(bits, 2).to_bytes(len(bits) // 8)
    raw = bytes([4, len(data)]) + data + b"\x80"
    return b"\x00\x00\x00\x01\x4e\x01" + raw.replace(b"\0\0", b"\0\0\3")


@pytest.mark.kept("video-hdr-dynamic")
def test_dynamic_hdr_metadata_is_dropped_with_a_note(outcome, tmp_path):
    plain = hdr(tmp_path / "plain.hevc").read_bytes()
    source = tmp_path / "a.hevc"
    first = plain.index(b"\0\0\1\x28\x01")  # the key frame
    source.write_bytes(plain[:first] + hdr10_plus()[1:] + plain[first:])
    (note,) = outcome(source, "b.mp4").notes
    assert "HDR metadata that changes from scene to scene is dropped" in note


def spherical(path):
    """Writes a video with a box of Spherical Video V1 at the end of its track."""
    data = bytearray(make(path, times=THREE_TIMES).read_bytes())
    fields = {"Spherical": "true", "Stitched": "true", "StitchingSoftware": "none"}
    fields["ProjectionType"] = "equirectangular"
    tags = "".join(f"<GSpherical:{k}>{v}</GSpherical:{k}>" for k, v in fields.items())
    xml = f"<rdf:SphericalVideo>{tags}</rdf:SphericalVideo>".encode()
    box = b"uuid" + bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + xml
    box = (len(box) + 4).to_bytes(4, "big") + box
    for name in (b"moov", b"trak"):  # they follow the images, whose offsets do not change
        place = data.index(name) - 4
        size = int.from_bytes(data[place : place + 4], "big")
        data[place : place + 4] = (size + len(box)).to_bytes(4, "big")
        end = place + size
    data[end:end] = box
    path.write_bytes(data)
    return path


@pytest.mark.kept("video-spherical")
def test_the_spherical_mark_is_dropped_with_a_note(outcome, tmp_path):
    (note,) = outcome(spherical(tmp_path / "a.mp4"), "b.mp4").notes
    assert "its mark as a spherical video, so that players show it flat, is dropped" in note


@pytest.mark.kept("video-stereo")
def test_the_stereoscopic_mark_is_dropped_with_a_note_in_webm(outcome, tmp_path):
    options = {"x264-params": "frame-packing=3"}
    source = make(tmp_path / "a.mp4", times=THREE_TIMES, options=options)
    (note,) = outcome(source, "b.webm").notes
    assert note == "its mark as a stereoscopic video is dropped"


@pytest.mark.kept("video-chroma")
@pytest.mark.parametrize(
    ("codec", "kind", "name"),
    [
        ("libx264", "yuv444p", "4:4:4"),
        ("libx264", "yuv422p", "4:2:2"),
        ("libx265", "yuv422p10le", "4:2:2"),
        ("ffv1", "yuv440p", "4:4:0"),
        ("ffv1", "yuv411p", "4:1:1"),
        ("libx264rgb", "rgb24", "RGB"),
        ("ffv1", "bgr0", "RGB"),
    ],
)
def test_finer_chroma_is_reduced_with_a_note(outcome, tmp_path, codec, kind, name):
    options = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    source = make(tmp_path / "a.mkv", times=THREE_TIMES, codec=codec, kind=kind, options=options)
    (note,) = outcome(source, "b.mp4").notes
    assert note == (
        f"its colours are {name} and are written as 4:2:0, which all players support; .mkv with "
        "--lossless keeps all of them"
    )


@pytest.mark.kept("video-chroma-lossless")
def test_lossless_keeps_finer_chroma(outcome, tmp_path):
    source = make(tmp_path / "a.mkv", times=THREE_TIMES, kind="yuv444p")
    with av.open(str(outcome(source, "b.mkv", lossless=True).path)) as video:
        assert video.streams.video[0].pix_fmt == "bgr0"


@pytest.mark.kept("video-chroma-usual")
@pytest.mark.parametrize("kind", ["yuv420p", "yuvj420p", "gray", "yuv410p", "nv12"])
def test_usual_chroma_is_written_without_a_note(outcome, tmp_path, kind):
    codec = "ffv1" if kind == "yuv410p" else "libx264"
    source = make(tmp_path / "a.mkv", times=THREE_TIMES, codec=codec, kind=kind)
    with av.open(str(outcome(source, "b.mp4").path)) as video:
        assert video.streams.video[0].pix_fmt.replace("j", "") == "yuv420p"


@pytest.mark.kept("video-alpha")
def test_alpha_is_dropped_with_a_note(outcome, tmp_path):
    frames = [av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 4), 90, np.uint8), "argb")] * 2
    source = make(tmp_path / "a.mov", frames, THREE_TIMES[:2], codec="qtrle", kind="argb")
    assert outcome(source, "b.mp4").notes[0] == "its transparency is dropped"


@pytest.mark.kept("video-damaged")
def test_a_damaged_frame_is_noted(outcome, tmp_path):
    source = make(tmp_path / "a.webm", codec="libvpx-vp9", times=[40 * i for i in range(40)])
    (note,) = outcome(damage(source, spoil=30), "b.mkv").notes
    assert re.match(r"\d+ damaged packets?, the first at 0:00:01", note)  # the path is left out


def test_a_short_video_that_is_cut_off_gives_a_note(tmp_path):
    """Durations are not exact enough to refuse a video of which less than a second is missing."""
    source = make(tmp_path / "a.mkv", times=[40 * i for i in range(15)])
    assert open_video(source).notes == ()
    damage(source, cut=source.stat().st_size * 6 // 10)
    video = open_video(source)
    missing = 0.6 - 0.04 * video.frames
    assert missing > 0.1
    assert video.notes == (f"its last {missing:.1f} s are missing: it may be cut off",)


@pytest.mark.kept("video-cut")
def test_a_video_that_is_cut_off_is_refused(outcome, tmp_path):
    source = make(tmp_path / "a.mkv", times=[40 * i for i in range(100)])
    damage(source, cut=source.stat().st_size // 2)
    assert "cut off: of 0:00:04 it contains 0:00:0" in outcome(source, "b.mkv").failure
