"""Tests of the upscale command: results, exit codes, signals, pipes and a full disk."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image

from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.images.reader import open_image
from esrgan_jax.interpolation import interpolate_params
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscale import main
from esrgan_jax.upscaling.upscaler import Upscaler


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "esrgan_jax.upscale", *map(str, arguments)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small x4 generators with visible results: (path, module, variables) of each."""
    module = RRDBNet(num_features=8, num_growth=4, num_blocks=1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    rng = np.random.default_rng(0)
    result = []
    for seed in (0, 1):
        variables = jax.tree.map(lambda s: rng.normal(0, 0.15, s.shape).astype(np.float32), shapes)
        variables["params"]["conv_last"]["bias"] += np.float32(0.5)
        path = tmp_path_factory.mktemp("models") / f"model{seed}.safetensors"
        save_generator(path, module, variables)
        result.append((path, module, variables))
    return result


@pytest.fixture
def photos(tmp_path, rng):
    """A folder with two images, one in a subfolder, and a file that is not an image."""
    folder = tmp_path / "photos"
    for name in ("a.png", "sub/Ünï köde.v2.png"):
        write_image(folder / name, rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    (folder / "notes.txt").write_text("no image")
    return folder


def test_results_match_the_network(models, photos, tmp_path, capsys):
    path, module, variables = models[0]
    output = tmp_path / "out"
    main([str(photos), f"--output={output}", f"--model={path}"])
    for name in ("a.png", "sub/Ünï köde.v2.png"):
        lr = read_image(photos / name)
        sr = np.asarray(module.apply(variables, (lr[None] / 255).astype(np.float32))[0])
        expected = np.rint(sr.clip(0, 1) * 255).astype(int)
        assert expected.std() > 3
        assert np.abs(read_image(output / name) - expected).max() <= 1
    assert "2 images upscaled x4" in capsys.readouterr().out


def test_options_reach_the_upscaler(models, photos, tmp_path):
    (psnr, module, a), (gan, _, b) = models
    output = tmp_path / "big.png"
    interpolation = [f"--psnr_model={psnr}", "--alpha=0.3"]
    tiles = ["--tile=8", "--overlap=2"]
    source = photos / "a.png"
    main([str(source), f"--output={output}", f"--model={gan}", *interpolation, *tiles])
    upscaler = Upscaler(module, interpolate_params(a, b, 0.3), tile=8, overlap=2)
    np.testing.assert_array_equal(read_image(output), upscaler(read_image(source)))


def test_a_damaged_image_is_reported_and_the_others_are_upscaled(models, photos, tmp_path, capsys):
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes()[:100])
    output = tmp_path / "out"
    with pytest.raises(RunError, match=r"1 of 3 images .*b\.png"):
        main([str(photos), f"--output={output}", f"--model={models[0][0]}"])
    written = sorted(path.name for path in output.rglob("*") if path.is_file())
    assert written == ["a.png", "Ünï köde.v2.png"]
    assert "b.png: cannot be read" in capsys.readouterr().err


def test_the_exit_code_is_2_if_no_named_image_can_be_read(models, photos, tmp_path):
    """If an image was upscaled, or for images of a folder, it is 1."""
    raw, cut = photos / "raw.nef", photos / "b.png"
    tifffile.imwrite(raw, np.zeros((8, 8), np.uint16), photometric="cfa")
    cut.write_bytes((photos / "a.png").read_bytes()[:100])
    for number, (names, kind) in enumerate(
        (([raw], InputError), ([raw, cut], InputError), ([raw, photos / "a.png"], RunError))
    ):
        with pytest.raises(kind, match=r"could not be upscaled: \S+raw\.nef"):
            main([*map(str, names), f"--output={tmp_path}/{number}/", f"--model={models[0][0]}"])
    (photos / "a.png").unlink()
    (photos / "sub/Ünï köde.v2.png").unlink()
    with pytest.raises(RunError, match=r"1 of 1 images .*b\.png"):
        main([str(photos), f"--output={tmp_path}/4/", f"--model={models[0][0]}"])


def test_a_network_that_is_not_finite_writes_no_image(models, photos, tmp_path, capsys):
    _, module, variables = models[0]
    damaged = jax.tree.map(np.copy, variables)
    damaged["params"]["conv_hr"]["bias"][0] = np.nan
    path, output = tmp_path / "damaged.safetensors", tmp_path / "out"
    save_generator(path, module, damaged)
    with pytest.raises(RunError, match=r"2 of 2 images .*a\.png"):
        main([str(photos), f"--output={output}", f"--model={path}"])
    assert "a.png: the network gives values that are not finite" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output="], "the path is empty"),
        (["--model=none.npz"], "none.npz"),
    ],
)
def test_wrong_options_exit_with_code_2_and_a_message(photos, tmp_path, options, message):
    arguments = command(photos, f"--output={tmp_path}/out", *options)
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


ARCHITECTURES = {
    **{f"x{scale}": {"scale": scale} for scale in (1, 2, 3, 4, 8, 16, 32)},
    "pixelshuffle": {"upsampler": "pixelshuffle"},
    "unshuffle 2": {"scale": 2, "unshuffle": 2},
    "unshuffle 4": {"scale": 1, "unshuffle": 4},
    "unshuffle 8": {"scale": 1, "unshuffle": 8},
    "gray": {"in_channels": 1, "out_channels": 1},
    "gray to colour": {"in_channels": 1, "out_channels": 3},
    "RGBA": {"in_channels": 4, "out_channels": 4, "scale": 2},
    "ESRGAN+": {"plus": True},
}


RARE = ("x1", "x16", "x32", "unshuffle 4", "RGBA")


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in RARE else [])
        for name in ARCHITECTURES
    ],
)
def test_every_architecture(tmp_path, rng, random_generator, architecture):
    fields, params, _ = random_generator(rng, **ARCHITECTURES[architecture])
    params = jax.tree.map(lambda a: a * np.float32(0.1), params)
    model = tmp_path / ("3x_model.pth" if fields["scale"] == 3 else "model.pth")
    save_generator(model, RRDBNet(**fields), {"params": params}, naming="old")
    write_image(tmp_path / "a.png", rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    main([str(tmp_path / "a.png"), f"--output={tmp_path / 'b.png'}", f"--model={model}"])
    scale = fields["scale"]
    assert read_image(tmp_path / "b.png").shape == (9 * scale, 13 * scale, 3)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


@pytest.fixture
def large(tmp_path, rng):
    """A folder with images that take some time in small tiles."""
    for name in ("a.png", "b.png"):
        image = rng.integers(0, 256, (700, 700, 3), dtype=np.uint8)
        write_image(tmp_path / "large" / name, image)
    return tmp_path / "large"


@pytest.mark.parametrize(
    ("number", "name", "suffix"),
    [(signal.SIGINT, "", ""), (signal.SIGTERM, "a.png", ".tif")],
)
def test_a_signal_stops_the_command_soon_and_leaves_no_files(
    models, large, tmp_path, number, name, suffix
):
    output = tmp_path / f"out{suffix}"
    slow = ["--tile=32", "--overlap=16", "--progress=json"]
    with subprocess.Popen(
        command(large / name, f"--output={output}", f"--model={models[0][0]}", *slow),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            assert json.loads(line)["event"] == "progress"
            if leftovers(tmp_path):  # a file is being written
                break
        sent = time.monotonic()
        process.send_signal(number)
        process.send_signal(number)  # as impatient users do
        out, err = process.communicate(timeout=60)
    assert time.monotonic() - sent < 10
    assert process.returncode == 128 + number
    assert err == "stopped\n"
    assert json.loads(out.splitlines()[-1])["event"] == "finished"
    assert leftovers(tmp_path) == []
    assert not output.is_file()


def test_standard_input_and_output(models, photos):
    arguments = ["-", "--output=-", f"--model={models[0][0]}", "--format=tif"]
    image = (photos / "a.png").read_bytes()
    done = subprocess.run(
        command(*arguments, "--progress=json"), input=image, capture_output=True, check=False
    )
    assert done.returncode == 0
    assert open_image(done.stdout).width == 48
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events[-2:] == ["done", "finished"]


def test_a_closed_pipe_prints_no_traceback(models, photos):
    with subprocess.Popen(
        command(photos / "a.png", f"--model={models[0][0]}", "--output=-"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 1
    assert "standard output: could not be written: Broken pipe" in err
    assert "Traceback" not in err
    assert "Exception" not in err


def test_json_to_a_closed_pipe_stops_the_command(models, photos, monkeypatch, tmp_path):
    class Closed(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    arguments = [str(photos), f"--output={tmp_path / 'out'}", f"--model={models[0][0]}"]
    with pytest.raises(RunError, match="stopped: standard output was closed"):
        main([*arguments, "--progress=json"])
    assert leftovers(tmp_path) == []


def test_images_that_do_not_fit_on_a_full_disk_are_reported(models, photos, tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
    code = limit + "from esrgan_jax import upscale; upscale.run()"
    write_image(photos / "0.png", np.zeros((9, 12, 3), np.uint8))  # its result fits
    arguments = [photos, f"--output={tmp_path / 'out'}", f"--model={models[0][0]}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"},
    )
    assert done.returncode == 1
    assert "a.png: could not be written: " in done.stderr
    assert "2 of 3 images could not be upscaled" in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(tmp_path) == []
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_file()] == ["0.png"]


def test_two_commands_can_write_the_same_folder(models, photos, tmp_path):
    output = tmp_path / "out"
    both = [
        subprocess.Popen(command(photos, f"--output={output}", f"--model={models[0][0]}"))
        for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert read_image(output / "a.png").shape == (36, 48, 3)
    assert leftovers(tmp_path) == []


def test_a_second_run_upscales_only_missing_results(models, photos, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [str(photos), f"--output={output}", f"--model={models[0][0]}"]
    main(arguments)
    (output / "a.png").unlink()
    written_at = (output / "sub/Ünï köde.v2.png").stat().st_mtime_ns
    capsys.readouterr()
    main([*arguments, "--progress=json"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = [event for event in events if event["event"] != "progress"]  # on slow machines
    assert [event["event"] for event in events] == ["skipped", "done", "finished"]
    assert events[-1] | {"seconds": 0} == {
        **{"event": "finished", "done": 1, "failed": 0, "skipped": 1, "seconds": 0}
    }
    main(arguments)
    summary = "0 images upscaled x4: {}, 2 skipped as done (--overwrite repeats them)"
    assert summary.format(output) in capsys.readouterr().out
    assert (output / "sub/Ünï köde.v2.png").stat().st_mtime_ns == written_at
    main([*arguments, "--overwrite"])
    assert (output / "sub/Ünï köde.v2.png").stat().st_mtime_ns > written_at


def test_results_in_the_input_folder_are_not_upscaled_again(models, photos, capsys):
    for _ in range(2):
        main([str(photos), f"--output={photos}", "--suffix=_x4", f"--model={models[0][0]}"])
    assert sorted(path.name for path in photos.rglob("*.png")) == [
        *("a.png", "a_x4.png", "Ünï köde.v2.png", "Ünï köde.v2_x4.png")
    ]
    assert "2 skipped" in capsys.readouterr().out


def test_shares_together_have_every_image_once(models, tmp_path):
    for index in range(5):
        write_image(tmp_path / f"in/{index}.png", np.zeros((2, 2, 3), np.uint8))
    found = []
    for part in range(3):
        output = tmp_path / str(part)
        shared = [f"--output={output}", f"--share={part}/3", "--progress=quiet"]
        main([str(tmp_path / "in"), *shared, f"--model={models[0][0]}"])
        found += [path.name for path in output.iterdir()]
    assert sorted(found) == [f"{index}.png" for index in range(5)]


def test_then_chains_networks_and_mix_blends_them(models, photos, tmp_path):
    (first, module, a), (second, _, b) = models
    image, output = read_image(photos / "a.png"), tmp_path / "big.png"
    overwrite = ["--overwrite", "--progress=quiet", f"--output={output}", str(photos / "a.png")]
    main([*overwrite, f"--model={first}", f"--then={second}"])
    assert read_image(output).shape == (9 * 16, 12 * 16, 3)
    main([*overwrite, "--mix", f"{first}=0.25", f"{second}=0.75"])
    expected = Upscaler(module, interpolate_params(a, b, 0.75))(image)
    np.testing.assert_array_equal(read_image(output), expected)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--color=keep", {"color": "keep"}),
        ("--seamless=wrap", {"seamless": "wrap"}),
        ("--ensemble", {"ensemble": True}),
        ("--dtype=bfloat16", {"dtype": "bfloat16"}),
        ("--exact", {"exact": True}),
        ("--tile=99", {"tile": 99}),
        ("--overlap=7", {"overlap": 7}),
        ("--strength=0.3", {"strength": 0.3}),
        ("--spatial", {"spatial": True}),
    ],
)
def test_work_options_reach_the_upscaler(photos, tmp_path, monkeypatch, option, expected):
    def load(models, **options):
        assert options | expected == options
        raise InputError(f"{models}")

    monkeypatch.setattr(Upscaler, "load", load)
    with pytest.raises(InputError, match=r"\['m', 'n'\]"):
        main([str(photos), f"--output={tmp_path / 'out'}", "--model=m", "--then=n", option])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--alpha=0.5"], "alpha without psnr_model"),
        (["--psnr_model=p.npz"], "psnr_model without alpha"),
        (["--scale=2", "--size=9x9"], "scale and size both"),
        (["--scale=-1"], "not a positive number"),
        (["--size=0x0"], "one of them may be 0"),
        (["--format=bmp"], "--format=bmp: choose one of"),
        (["--quality=50"], r"\.png has no --quality; it is for \.avif"),
        (["--tile=0"], "a tile of 0 px must be"),
        (["--overlap=-1"], "an overlap of -1 px is negative"),
        (["--exact", "--overlap=9"], "exact chooses the overlap"),
        (["--strength=2"], "a strength of 2 is not within"),
        (["--model=realesrgan-x4pluss"], "realesrgan-x4plus"),
        (["--mix", "MODEL=0.5"], "--mix replaces --model"),
    ],
)
def test_wrong_combinations_of_options_are_refused(models, photos, tmp_path, options, message):
    path = str(models[0][0])
    options = [option.replace("MODEL", path) for option in options]
    with pytest.raises(InputError, match=message):
        main([str(photos), f"--output={tmp_path / 'out'}", f"--model={path}", *options])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "models", "alpha"),
    [([], [None], None), (["--alpha=0.3"], [None], 0.3), (["--then=n"], [None, "n"], None)],
)
def test_the_default_model_is_loaded(photos, tmp_path, monkeypatch, options, models, alpha):
    def load(given, **options):
        assert (given, options["psnr_model"], options["alpha"]) == (models, None, alpha)
        raise InputError("loaded")

    monkeypatch.setattr(Upscaler, "load", load)
    with pytest.raises(InputError, match="loaded"):
        main([str(photos), f"--output={tmp_path / 'out'}", *options])


def test_the_default_model_is_recorded_in_the_result(photos, tmp_path):
    main([str(photos / "a.png"), f"--output={tmp_path / 'b.png'}"])
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (48, 36)
        assert Upscaler.load().name in image.getexif()[305]


def test_psnr_model_without_model_is_refused(photos, tmp_path):
    with pytest.raises(InputError, match="psnr_model without model"):
        main([str(photos), f"--output={tmp_path / 'out'}", "--psnr_model=p.npz", "--alpha=0.5"])


@pytest.mark.parametrize(
    ("mixed", "message"),
    [
        (["0=0.5", "1=0.2"], "the weights of --mix sum to 0.7, not to 1"),
        (["0=0.5", "0=0.5"], "names a network twice"),
    ],
)
def test_wrong_blends_are_refused(models, photos, tmp_path, mixed, message):
    mixed = [f"{models[int(text[0])][0]}{text[1:]}" for text in mixed]
    with pytest.raises(InputError, match=message):
        main([str(photos), f"--output={tmp_path / 'out'}", "--mix", *mixed])


@pytest.mark.parametrize(
    "option",
    ["--size=9", "--share=2/2", "--share=a", "--mix=a.pth", "--depth=9", "--color=no", "--alpha=x"],
)
def test_errors_of_wrong_values_begin_with_the_flag(option):
    with pytest.raises(InputError, match=rf"^{option.partition('=')[0]}"):
        main(["a.png", "--output=b.png", option])
