"""Reading and writing files with unusual names."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from esrgan_jax.batch import made_by
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import InputError
from esrgan_jax.files import replacing, too_long
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscale import main

NAMES = {
    "249 bytes": b"a" * 245,
    "255 bytes": b"a" * 251,
    "no UTF-8": b"\xff\xfe",
    "two bytes a letter": "é".encode() * 122,
    "new line": b"a\nb",
    "options of libvips": b"a.png[Q=5]",
    "pattern": b"a[1]*?",
    "format": b"%s{0}%03d",
    "colon": b"12:30",
    "escape": b"\x1b[31m",
    "quotes": b"'\"`$HOME",
    "spaces": b" a ",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory, random_generator):
    path = tmp_path_factory.mktemp("model") / os.fsdecode(b"m\xff=1.npz")
    fields, params, _ = random_generator(np.random.default_rng(0), num_blocks=1, scale=2)
    params = jax.tree.map(lambda a: a * np.float32(0.2), params)
    save_generator(path, RRDBNet(**fields), {"params": params})
    return path


@pytest.mark.parametrize("name", NAMES)
def test_images_of_every_name_and_format_are_written_and_read(folder, rng, name):
    array = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    record = made_by.make_record("a.npz", b"", {})
    for suffix in (b".png", b".jpg", b".tif", b".webp", b".avif", b".gif"):
        if len(NAMES[name] + suffix) > 255:
            continue
        path = Path(os.fsdecode(NAMES[name] + suffix))
        shape = {"height": 8, "width": 9, "bands": 3, "dtype": np.uint8}
        write_rows(path, [array], software=record, **shape)
        image = open_image(path)
        assert (image.height, image.width) == (8, 9)
        assert made_by.find_record(path) == record
        if suffix in (b".png", b".tif"):
            np.testing.assert_array_equal(np.concatenate(list(image.rows())), array)
    assert all(file.suffix != ".part" for file in folder.iterdir())


def test_the_command_upscales_files_of_all_names(folder, model, capsys):
    for name in NAMES.values():
        write_image(Path("in", os.fsdecode(name + b".png")), np.zeros((4, 4, 3), np.uint8))
    command = ["in", "--output=out", f"--model={model}"]
    main([*command, "--progress=json"])
    events = [json.loads(record) for record in capsys.readouterr().out.splitlines()]
    assert events[-1]["done"] == len(NAMES)
    assert sorted(os.listdir(b"out")) == sorted(name + b".png" for name in NAMES.values())
    main([*command, "--progress=json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["skipped"] == len(NAMES)
    file = Path("in", os.fsdecode(b"\xff\xfe.png"))
    output = os.fsdecode(b"x\xff.png")
    main([str(file), f"--output={output}", f"--model={model}", "--progress=quiet"])
    assert read_image(os.fsdecode(b"x\xff.png")).shape == (8, 8, 3)


def test_names_that_are_too_long_are_refused_before_any_work(folder, model, capsys):
    for name in ("short", "a" * 249):
        write_image(Path("in", f"{name}.png"), np.zeros((4, 4, 3), np.uint8))
    for output in (f"{'b' * 252}.png", "é" * 127 + ".png"):
        with pytest.raises(
            InputError, match=r"the name has 25\d bytes, and the file system allows"
        ):
            main(["in/short.png", f"--output={output}", "--model=gone.npz"])
    with pytest.raises(Exception, match="1 of 2 images could not be upscaled"):
        main(["in", "--output=out", "--suffix=_four", f"--model={model}"])
    assert "the name has 258 bytes" in capsys.readouterr().err
    assert os.listdir("out") == ["short_four.png"]
    with pytest.raises(InputError, match="the path has"):
        main(["in/short.png", f"--output={'/'.join(['d' * 200] * 25)}/x.png", "--model=gone.npz"])


def test_the_temporary_file_of_a_long_name_has_a_short_name(folder):
    for name in ("c" * 255, "d" * 249, "é" * 127):
        with replacing(name) as partial:
            partial.write_text("x")
            assert too_long(partial) is None
        assert Path(name).read_text() == "x"
    with pytest.raises(InputError, match="the name has 256 bytes"), replacing("e" * 256):
        pass


@pytest.mark.parametrize("name", [b"12:30.mp4", b"data:x.mp4", b"\xff.mp4", b"a\n%03d.mp4"])
def test_videos_of_unusual_names_are_upscaled(folder, model, name):
    av = pytest.importorskip("av")
    path = Path(os.fsdecode(name))
    with av.open("plain.mp4", "w") as video:
        stream = video.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")
        video.mux(stream.encode(frame))
        video.mux(stream.encode(None))
    os.rename("plain.mp4", path)
    main([str(path), f"--output=x{path}", f"--model={model}", "--progress=quiet"])
    with av.open(str(Path(f"x{path}").absolute())) as video:
        assert video.streams.video[0].codec_context.width == 64
