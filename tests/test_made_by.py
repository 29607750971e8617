"""Existing results: skipped if the same command made them, otherwise an error."""

import io
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from esrgan_jax.batch import made_by
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.images.reader import open_image
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscale import main


@pytest.fixture(scope="module")
def models(tmp_path_factory, random_generator):
    """Returns two x2 networks of one architecture, with unusual file names."""
    folder, paths = tmp_path_factory.mktemp("models"), []
    for seed, name in enumerate(("a, by (1).npz", "Ünï\nköde.npz")):
        rng = np.random.default_rng(seed)
        fields, params, _ = random_generator(rng, num_blocks=1, scale=2)
        params = jax.tree.map(lambda a: a * np.float32(0.2), params)
        paths.append(folder / name)
        save_generator(paths[-1], RRDBNet(**fields), {"params": params})
    return paths


@pytest.fixture
def photo(tmp_path, rng):
    write_image(tmp_path / "photo.png", rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    return tmp_path / "photo.png"


def upscale(*arguments: object) -> None:
    main([*map(str, arguments)])


def content(path: Path) -> tuple[bytes, int]:
    return path.read_bytes(), path.stat().st_mtime_ns


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif", "gif"])
def test_the_same_command_skips_existing_results(models, photo, tmp_path, capsys, suffix):
    output = tmp_path / f"large.{suffix}"
    for model in models:
        command = (photo, f"--output={output}", f"--model={model}", "--strength=0")
        upscale(*command, "--overwrite")
        before = content(output)
        capsys.readouterr()
        upscale(*command)
        summary = f"{output}, 1 skipped as done (--overwrite repeats them)"
        assert summary in capsys.readouterr().out
        assert content(output) == before
    with pytest.raises(
        InputError, match=r"large\.\w+: already exists and was made with strength=0,"
    ):
        upscale(photo, f"--output={output}", f"--model={models[1]}")
    assert content(output) == before
    assert open_image(output).width == 18
    output.write_bytes(before[0][:-20])
    with pytest.raises(InputError, match="does not say that it was made by this command"):
        upscale(*command)


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        (["--model=B"], r"made by a, by \(1\)\.npz sha256:\w{16}, not by .+kode\.npz sha256:"),
        (["--psnr_model=A", "--model=B", "--alpha=0.5"], r"made by .* not by .* x 0\.5 \+ "),
        (["--model=A", "--then=B"], "made by .* not by .* > "),
        (["--model=A", "--scale=3"], r"made with the default settings, not with scale=3\."),
        (["--model=A", "--size=9x0"], "not with size=9x0"),
        (["--model=A", "--strength=0"], "not with strength=0"),
        (["--model=A", "--color=keep", "--ensemble"], "not with color=keep, ensemble=True"),
        (["--model=A", "--seamless=wrap", "--depth=16"], "not with depth=16, seamless=wrap"),
        (["--model=A", "--dtype=bfloat16"], "not with dtype=bfloat16"),
        (["--model=A", "edited"], "made from another image"),
        (["--model=A", "foreign"], "does not say that it was made by this command"),
        (["--model=A", "text"], "does not say that it was made by this command"),
    ],
)
def test_an_existing_result_of_another_command_is_refused(
    models, photo, tmp_path, options, differs
):
    output = tmp_path / "large.png"
    upscale(photo, f"--output={output}", f"--model={models[0]}")
    *options, last = [o.replace("=A", f"={models[0]}") for o in options]
    options = [o.replace("=B", f"={models[1]}") for o in (*options, last)]
    if last in ("edited", "foreign", "text"):
        options.pop()
    if last == "edited":
        write_image(photo, 255 - read_image(photo))
    if last == "foreign":
        Image.new("RGB", (3, 3)).save(output)
    if last == "text":
        output.write_text("no image")
    before = content(output)
    with pytest.raises(InputError, match=differs.replace("kode", "k.*de")) as raised:
        upscale(photo, f"--output={output}", *options)
    assert str(raised.value).startswith(f"{output}: already exists and ")
    assert str(raised.value).endswith("Choose another --output, or replace it with --overwrite")
    assert content(output) == before
    upscale(photo, f"--output={output}", *options, "--overwrite")
    assert content(output) != before
    upscale(photo, f"--output={output}", *options)  # its own result is skipped


def test_tile_size_does_not_change_the_record(models, photo, tmp_path, capsys):
    command = (photo, f"--output={tmp_path / 'large.png'}", f"--model={models[0]}")
    upscale(*command)
    upscale(*command, "--tile=64", "--spatial", "--progress=json")
    assert '"skipped"' in capsys.readouterr().out


def test_existing_files_of_a_folder_are_kept_and_the_others_upscaled(
    models, photo, tmp_path, capsys
):
    for name in ("b.png", "c.png", "d.png"):
        write_image(tmp_path / "in" / name, read_image(photo))
    command = (tmp_path / "in", f"--output={tmp_path / 'out'}", f"--model={models[0]}")
    upscale(*command)
    write_image(tmp_path / "in/b.png", 255 - read_image(photo))
    Image.new("RGB", (3, 3)).save(tmp_path / "out/c.png")
    kept = [content(tmp_path / f"out/{name}.png") for name in "bcd"]
    write_image(tmp_path / "in/e.png", read_image(photo))
    capsys.readouterr()
    with pytest.raises(RunError, match=r"2 of 3 images could not .*b\.png, .*c\.png"):
        upscale(*command, "--progress=json")
    events = [json.loads(record) for record in capsys.readouterr().out.splitlines()]
    summaries = [(event["event"], Path(event.get("source", "")).name) for event in events]
    summaries = [event for event in summaries if event[0] != "progress"]
    assert summaries == [
        *(("skipped", "d.png"), ("failed", "b.png"), ("failed", "c.png")),
        *(("done", "e.png"), ("finished", "")),
    ]
    reasons = [event["reason"] for event in events if event["event"] == "failed"]
    assert "out/b.png: already exists and was made from another image" in reasons[0]
    assert (
        "out/c.png: already exists and does not say that it was made by this command" in reasons[1]
    )
    assert [content(tmp_path / f"out/{name}.png") for name in "bcd"] == kept
    upscale(*command, "--overwrite")
    assert open_image(tmp_path / "out/c.png").width == 18


def test_results_of_standard_input_have_the_same_record_as_of_a_file(
    models, photo, tmp_path, monkeypatch
):
    class Stdin:
        buffer = None

    for data, error in ((photo.read_bytes(), ""), (photo.read_bytes(), ""), (b"", "another")):
        Stdin.buffer = io.BytesIO(data)
        monkeypatch.setattr("sys.stdin", Stdin)
        command = ("-", f"--output={tmp_path / 'large.png'}", f"--model={models[0]}")
        if error:
            with pytest.raises(InputError, match="was made from another image"):
                upscale(*command)
        else:
            upscale(*command)
    upscale(photo, *command[1:])  # the same image, from its file: skipped


def test_a_video_has_its_record_in_the_comment(models, tmp_path, capsys):
    av = pytest.importorskip("av")
    for suffix, comment in ((".mp4", ""), (".mkv", "from the attic"), (".webm", "")):
        source, output = tmp_path / f"f{suffix}", tmp_path / f"large{suffix}"
        codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
        with av.open(str(source), "w") as video:
            if comment:
                video.metadata["comment"] = comment
            stream = video.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")
            video.mux(stream.encode(frame))
            video.mux(stream.encode(None))
        command = (source, f"--output={output}", f"--model={models[0]}")
        upscale(*command)
        before = content(output)
        capsys.readouterr()
        upscale(*command)
        assert "1 skipped as done" in capsys.readouterr().out
        with pytest.raises(InputError, match="the default settings, not with quality=30"):
            upscale(*command, "--quality=30")
        assert content(output) == before
        again = tmp_path / f"again{suffix}"  # the source's record is replaced
        upscale(output, f"--output={again}", f"--model={models[1]}")
        with av.open(str(again)) as video:
            lines = next(
                v for k, v in video.metadata.items() if k.lower() == "comment"
            ).splitlines()
        assert lines[:-1] == ([comment] if comment else [])
        assert made_by.RECORD_LINE.fullmatch(lines[-1])


def test_a_result_that_is_upscaled_again_gets_a_new_record(models, photo, tmp_path):
    once, twice = tmp_path / "once.gif", tmp_path / "twice.gif"
    upscale(photo, f"--output={once}", f"--model={models[0]}")
    upscale(once, f"--output={twice}", f"--model={models[1]}")
    assert made_by.find_record(once) != made_by.find_record(twice)
    with Image.open(twice) as image:
        assert image.size == (36, 32)


def test_make_record_describes_source_options_and_model():
    record = made_by.make_record(
        "a.npz x 0.2 + ü\udcff.npz", b"abc", {"size": (9, 0), "scale": 2.5}
    )
    assert record.partition(", ")[2] == (
        r"from sha256:ba7816bf8f01cfea, scale=2.5, size=9x0, by a.npz x 0.2 + \xfc\udcff.npz"
    )
    other = record.replace("esrgan_jax ", "esrgan_jax 9")
    assert made_by.difference(other, record) is None
    with pytest.raises(InputError, match=r"gone\.png: cannot be read: No such file"):
        made_by.make_record("a", Path("gone.png"), {})
    assert made_by.find_record(Path(os.devnull)) is None
