"""Tests of edit lists and text subtitles of videos."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

from esrgan_jax.video.target import check_video_target  # noqa: E402
from esrgan_jax.video.video_file import open_video  # noqa: E402
from tests.videos import MS, SAME_SIZE, make, packets, times_of, upscaled  # noqa: E402

WORDS = [(100, 200, "Grüße"), (400, 60, "<i>zwei</i>"), (600, 100, "drei\nvier")]


def trimmed(path, seconds=1):
    """Writes a 3 s video whose edit lists hide the first second of each stream."""
    data = make(path, times=[100 * i for i in range(30)], sound="aac").read_bytes()
    whole = bytearray(data)
    with av.open(str(path)) as video:
        scales = {"video": video.streams.video[0], "audio": video.streams.audio[0]}
        ticks = [round(seconds / stream.time_base) for stream in scales.values()]
    place = -1
    for shift in ticks:  # each edit list has a duration and a start
        place = whole.index(b"elst", place + 1)
        entry = place + 12
        begin = int.from_bytes(whole[entry + 4 : entry + 8], "big")
        length = int.from_bytes(whole[entry : entry + 4], "big")
        whole[entry : entry + 4] = (length - 1000 * seconds).to_bytes(4, "big")
        whole[entry + 4 : entry + 8] = (begin + shift).to_bytes(4, "big")
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv"])
def test_parts_hidden_by_an_edit_list_are_not_shown(tmp_path, name):
    source = trimmed(tmp_path / "a.mp4")
    audio = packets(source, "audio")
    assert (times_of(source)[0], len(times_of(source))) == (0, 20)
    assert audio[0][0] < -0.9  # the hidden part is in the file
    target = upscaled(source, tmp_path / name)
    times, sound = times_of(target), packets(target, "audio")
    packet = Fraction(1024, 48000)
    assert [time - times[0] for time in times] == [Fraction(i, 10) for i in range(20)]
    assert times[0] <= packet + MS
    begin = times[0] - sound[0][0]
    assert 0 <= begin <= (2 if name == "b.mp4" else 1) * packet + MS
    assert [data for *_, data in sound] == [data for *_, data in audio[-len(sound) :]]
    with av.open(str(target)) as video:  # from the first image on, the samples are the same
        heard = np.concatenate(
            [f.to_ndarray()[0] for f in video.decode(audio=0) if f.pts * f.time_base >= times[0]]
        )
    with av.open(str(source)) as video:
        expected = np.concatenate(
            [f.to_ndarray()[0] for f in video.decode(audio=0) if f.pts * f.time_base >= 0]
        )
    best = max(
        np.corrcoef(heard[2000:20000], expected[2000 + lag : 20000 + lag])[0, 1]
        for lag in range(-1100, 1101, 4)
    )
    assert best > 0.99


def subtitles(path):
    """Returns the codec, (language, disposition), and [(start, length, text), ...]."""
    found = []
    with av.open(str(path)) as video:
        stream = video.streams.subtitles[0]
        for packet in video.demux(stream):
            if packet.size and (parts := stream.codec_context.decode2(packet)):
                text = rb"\N".join(part.dialogue for part in parts).decode()
                found.append(
                    (packet.pts * packet.time_base, packet.duration * packet.time_base, text)
                )
        codec, about = stream.codec_context.codec.name, (stream.language, stream.disposition)
    return codec, about, found


def plain(text):
    return text.replace("{\\i1}", "").replace("{\\i0}", "").replace("\\N", "\n").strip()


@pytest.mark.parametrize(
    ("first_target", "target", "codec"),
    [("m.mkv", "b.mp4", "mov_text"), ("m.mp4", "b.mkv", "srt"), ("m.mkv", "b.webm", "webvtt")],
)
def test_text_subtitles_are_converted(tmp_path, first_target, target, codec):
    words = [(MS * begin, MS * length, text) for begin, length, text in WORDS]
    source = make(tmp_path / "a.mkv", times=[40 * i for i in range(25)], subtitles=WORDS)
    if first_target == "m.mp4":
        first = upscaled(source, tmp_path / first_target)
        source.unlink()
        source = first
    assert check_video_target(open_video(source), tmp_path / target, **SAME_SIZE) == []
    found_codec, about, found = subtitles(upscaled(source, tmp_path / target))
    assert found_codec == codec
    assert about[0] == "deu"
    assert [(begin, length) for begin, length, _ in found] == [w[:2] for w in words]
    expected = ["Grüße", "zwei", "drei\nvier"]
    assert [plain(text) for *_, text in found] == expected
    assert "i1" in found[1][2]  # still in italics
