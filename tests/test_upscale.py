"""The command: which file becomes which, what stops it and what does not."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.interpolate import interpolate_params
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.picture import read_picture, write_picture
from esrgan_jax.upscale import main
from esrgan_jax.upscale_jobs import plan
from esrgan_jax.upscaler import Upscaler


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small x4 generators that make visible pictures: (path, module, variables) of each."""
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
    """A folder with two pictures, one of them below it, and a file that is no picture."""
    folder = tmp_path / "photos"
    for name in ("a.png", "sub/Ünï köde.v2.png"):
        write_picture(folder / name, rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_folders_keep_their_tree(photos, tmp_path):
    output = tmp_path / "out"
    assert plan([photos], output) == [
        (photos / "a.png", output / "a.png"),
        (photos / "sub/Ünï köde.v2.png", output / "sub/Ünï köde.v2.png"),
    ]
    files = [photos / "sub/Ünï köde.v2.png", photos / "a.png"]
    assert [target.name for _, target in plan(files, output)] == ["Ünï köde.v2.png", "a.png"]


def test_one_picture_becomes_the_file_or_lies_in_the_folder(photos, tmp_path):
    picture = photos / "a.png"
    assert plan([picture], tmp_path / "big.PNG") == [(picture, tmp_path / "big.PNG")]
    assert plan([picture], tmp_path / "v1.2") == [(picture, tmp_path / "v1.2" / "a.png")]
    (tmp_path / "dir.png").mkdir()
    assert plan([picture], tmp_path / "dir.png") == [(picture, tmp_path / "dir.png" / "a.png")]
    assert plan([picture], tmp_path / "big.jpg") == [(picture, tmp_path / "big.jpg")]


def test_results_inside_the_input_folder_are_not_inputs(photos):
    output = photos / "out"
    write_picture(output / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert [source.name for source, _ in plan([photos], output)] == ["a.png", "Ünï köde.v2.png"]
    assert output / "a.png" not in [source for source, _ in plan([photos], output)]


def test_no_picture_is_overwritten_or_written_twice(photos, tmp_path):
    (photos / "a.jpg").touch()
    other = tmp_path / "other"
    write_picture(other / "a.png", np.zeros((4, 4, 3), np.uint8))
    for inputs, output, message in [
        ([photos], tmp_path / "out", r"a\.jpg and .*a\.png would both"),
        (
            [photos / "a.png", other],
            tmp_path / "out",
            r"photos/a\.png and .*other/a\.png would both",
        ),
        ([other, other], tmp_path / "out", "would both"),
        ([other / "a.png"], other / "a.png", "overwrite"),
        ([other / "a.png"], other, "overwrite"),
        ([other], other, "is the input folder"),
        ([tmp_path / "none.png"], tmp_path / "out", "no picture or folder .*none.png"),
        ([photos], tmp_path / "out.png", "one file"),
        ([other], photos / "notes.txt", "files end in"),
        ([photos / "a.png"], tmp_path / "out.bmp", "files end in"),
    ]:
        with pytest.raises(InputError, match=message):
            plan(inputs, output)


def test_pictures_become_the_network_of_their_pixels(models, photos, tmp_path, capsys):
    path, module, variables = models[0]
    output = tmp_path / "out"
    main([str(photos), f"--output={output}", f"--model={path}"])
    for name in ("a.png", "sub/Ünï köde.v2.png"):
        lr = read_picture(photos / name)
        sr = np.asarray(module.apply(variables, (lr[None] / 255).astype(np.float32))[0])
        expected = np.rint(sr.clip(0, 1) * 255).astype(int)
        assert expected.std() > 3
        assert np.abs(read_picture(output / name) - expected).max() <= 1
    assert "2 pictures upscaled x4" in capsys.readouterr().out


def test_options_reach_the_upscaler(models, photos, tmp_path):
    (psnr, module, a), (gan, _, b) = models
    output = tmp_path / "big.png"
    interpolation = [f"--psnr_model={psnr}", "--alpha=0.3"]
    tiles = ["--tile=8", "--overlap=2"]
    source = photos / "a.png"
    main([str(source), f"--output={output}", f"--model={gan}", *interpolation, *tiles])
    upscaler = Upscaler(module, interpolate_params(a, b, 0.3), tile=8, overlap=2)
    np.testing.assert_array_equal(read_picture(output), upscaler(read_picture(source)))


def test_a_bad_picture_is_named_and_the_others_are_done(models, photos, tmp_path, capsys):
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes()[:100])
    output = tmp_path / "out"
    with pytest.raises(RunError, match=r"1 of 3 pictures .*b\.png"):
        main([str(photos), f"--output={output}", f"--model={models[0][0]}"])
    written = sorted(path.name for path in output.rglob("*") if path.is_file())
    assert written == ["a.png", "Ünï köde.v2.png"]
    assert "b.png: cannot be read" in capsys.readouterr().err


def test_a_network_that_is_not_finite_writes_no_picture(models, photos, tmp_path, capsys):
    _, module, variables = models[0]
    damaged = jax.tree.map(np.copy, variables)
    damaged["params"]["conv_hr"]["bias"][0] = np.nan
    path, output = tmp_path / "damaged.safetensors", tmp_path / "out"
    save_generator(path, module, damaged)
    with pytest.raises(RunError, match=r"2 of 2 pictures .*a\.png"):
        main([str(photos), f"--output={output}", f"--model={path}"])
    assert "a.png: the network gives values that are not finite" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no --model"),
        (["--model=none.npz"], "none.npz"),
        (["--model=m.npz", "--output="], "the path is empty"),
        (["--model=m.npz", "--alpha=0.5"], "alpha without psnr_model"),
        (["--model=m.npz", "--psnr_model=p.npz"], "psnr_model without alpha"),
    ],
)
def test_wrong_options_end_with_code_2_and_a_sentence(photos, tmp_path, options, message):
    command = [sys.executable, "-m", "esrgan_jax.upscale", str(photos), f"--output={tmp_path}/out"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


VARIETIES = {
    **{f"x{scale}": {"scale": scale} for scale in (1, 2, 3, 4, 8, 16, 32)},
    "pixelshuffle": {"upsampler": "pixelshuffle"},
    "folds by 2": {"scale": 2, "unshuffle": 2},
    "folds by 4": {"scale": 1, "unshuffle": 4},
    "folds by 8": {"scale": 1, "unshuffle": 8},
    "gray": {"in_channels": 1, "out_channels": 1},
    "gray to colour": {"in_channels": 1, "out_channels": 3},
    "RGBA": {"in_channels": 4, "out_channels": 4, "scale": 2},
    "ESRGAN+": {"plus": True},
}


@pytest.mark.parametrize("variety", VARIETIES)
def test_every_variety_of_network(tmp_path, rng, random_generator, variety):
    fields, params, _ = random_generator(rng, **VARIETIES[variety])
    params = jax.tree.map(lambda a: a * np.float32(0.1), params)
    model = tmp_path / ("3x_model.pth" if fields["scale"] == 3 else "model.pth")
    save_generator(model, RRDBNet(**fields), {"params": params}, naming="old")
    write_picture(tmp_path / "a.png", rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
    main([str(tmp_path / "a.png"), f"--output={tmp_path / 'b.png'}", f"--model={model}"])
    scale = fields["scale"]
    assert read_picture(tmp_path / "b.png").shape == (9 * scale, 13 * scale, 3)
