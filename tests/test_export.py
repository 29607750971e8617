"""tools/export.py: exported files give the network's results without this package."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from jax import export as jax_export
from PIL import Image

from esrgan_jax.checkpoint import load_generator, save_generator
from esrgan_jax.errors import InputError
from esrgan_jax.interpolation import load_blend
from esrgan_jax.models import RRDBNet, SRResNet
from tools import export

ROOT = Path(__file__).parents[1]
SMALL = {"num_features": 8, "num_growth": 4, "num_blocks": 1}
NETWORKS = {
    "x4": RRDBNet(**SMALL),
    "x2 unshuffled by 2": RRDBNet(**SMALL, scale=2, unshuffle=2),
    "x1 unshuffled by 4, grey, ESRGAN+ by pixelshuffle": RRDBNet(
        **SMALL,
        scale=1,
        unshuffle=4,
        in_channels=1,
        out_channels=1,
        plus=True,
        upsampler="pixelshuffle",
    ),
    "SRResNet": SRResNet(num_features=8, num_blocks=1, scale=2),
}
# Runs a script with imports of this package and of its dependencies blocked.
WITHOUT_PACKAGE = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("esrgan_jax", "flax", "orbax", "pyvips"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
try:
    import esrgan_jax
except ImportError:
    runpy.run_path(sys.argv.pop(1), run_name="__main__")
"""


def variables_of(module, rng):
    """Returns random variables whose outputs are around 0.5, some below 0 and above 1."""
    lr = np.zeros((1, 8, 8, module.in_channels), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), lr)

    def draw(path, leaf):
        array = rng.standard_normal(leaf.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return array / np.float32(np.sqrt(np.prod(leaf.shape[-4:-1])))
        return 0.5 + 0.1 * array  # biases, and positive scales and variances

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return {"batch_stats": {}, **variables}


def expected_of(module, variables, lr):
    """Returns the clamped result of the network, with the input padded by NumPy."""
    multiple, (height, width) = getattr(module, "unshuffle", 1), lr.shape[1:3]
    pads = [(0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)]
    sr = jax.jit(module.apply)(variables, np.pad(lr, pads, "reflect"))
    return np.asarray(sr)[:, : height * module.scale, : width * module.scale].clip(0, 1)


def run_tool(*arguments):
    command = [sys.executable, str(ROOT / "tools" / "export.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(path):
    return jax_export.deserialize(bytearray(path.read_bytes()))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Returns the paths of two weight files of one architecture."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("psnr.npz", "gan.npz")):
        module = NETWORKS["x4"]
        save_generator(folder / name, module, variables_of(module, np.random.default_rng(seed)))
    return folder / "psnr.npz", folder / "gan.npz"


@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_give_the_same_results(tmp_path, rng, name, capsys):
    module = NETWORKS[name]
    variables = variables_of(module, rng)
    save_generator(tmp_path / "network", module, variables)
    output = tmp_path / "network.stablehlo"
    export.main([str(tmp_path / "network"), str(output)])
    exported = read(output)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.fun_name == "network"
    channels, scale = module.in_channels, module.scale
    shapes = [(2, 8, 12), (1, 5, 2)]  # multiples of unshuffle, and others
    for shape in shapes:
        lr = rng.random((*shape, channels), np.float32)
        sr = np.asarray(exported.call(lr))
        assert sr.dtype == np.float32
        assert sr.shape == (shape[0], scale * shape[1], scale * shape[2], module.out_channels)
        np.testing.assert_allclose(sr, expected_of(module, variables, lr), atol=1e-6)
        if shape == shapes[0]:
            assert 0.05 < ((sr > 0) & (sr < 1)).mean() < 1  # some values are clamped, but not all

    printed = capsys.readouterr().out
    enlarged = "h,w" if scale == 1 else f"{scale}*h,{scale}*w"
    for part in (
        f"{type(module).__name__} x{scale}",
        f"float32[b,h,w,{channels}]",
        f"float32[b,{enlarged},{channels}]",
        "cpu, cuda, tpu",
        hashlib.sha256(output.read_bytes()).hexdigest(),
    ):
        assert part in printed


def test_mirrored_indices_equal_numpy_reflect():
    for size in range(1, 12):
        for multiple in (2, 4, 8):
            expected = np.pad(np.arange(size), (0, -size % multiple), "reflect")
            np.testing.assert_array_equal(export._mirrored(size, multiple), expected)


@pytest.mark.parametrize("name", ["x4", "SRResNet"])
def test_bfloat16_exports_take_and_return_float32(rng, name):
    module = NETWORKS[name].clone(dtype=jax.numpy.dtype("bfloat16"))
    variables = variables_of(module, rng)
    exported = export.export_generator(module, variables, "bf16", ["cpu"])
    lr = rng.random((1, 6, 5, 3), np.float32)
    # XLA may round in other places in each compilation.
    expected = expected_of(module, variables, lr)
    np.testing.assert_allclose(np.asarray(exported.call(lr)), expected, atol=0.02)
    assert exported.out_avals[0].dtype == np.float32


def test_only_weights_used_in_bfloat16_are_narrowed(rng):
    module = NETWORKS["SRResNet"]
    params = variables_of(module, rng)["params"]
    narrowed = export._narrowed(params, ml_dtypes.bfloat16)
    kept = jax.tree.map(lambda old, new: old.dtype == new.dtype, params, narrowed)
    assert kept["conv_last"] == {"kernel": True, "bias": True}
    assert kept["body_0_bn1"] == {"scale": True, "bias": True}
    assert kept["body_0_prelu"]
    assert kept["conv_body"] == {"kernel": False, "bias": False}
    jax.tree.map(np.testing.assert_array_equal, export._narrowed(params, np.float32), params)


def test_a_blend_is_exported(tmp_path, pair, rng):
    psnr, gan = map(str, pair)
    output = tmp_path / "blend.stablehlo"
    export.main([gan, str(output), f"--psnr_model={psnr}", "--alpha=0.25", "--platforms=cpu"])
    exported = read(output)
    assert exported.platforms == ("cpu",)
    assert exported.fun_name == "0.75 psnr.npz + 0.25 gan.npz"
    lr = rng.random((2, 6, 5, 3), np.float32)
    expected = expected_of(*load_blend(psnr, gan, 0.25), lr)
    np.testing.assert_allclose(np.asarray(exported.call(lr)), expected, atol=1e-6)


def test_exports_are_reproducible_and_contain_no_local_paths(tmp_path, pair):
    """Files are identical, about half as large in bfloat16, and no larger than the weights need."""
    for name, options in (("a", []), ("b", []), ("c", ["--dtype=bfloat16"])):
        export.main([str(pair[1]), str(tmp_path / f"{name}.stablehlo"), *options])
    a, b, c = ((tmp_path / f"{name}.stablehlo").read_bytes() for name in "abc")
    assert a == b
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(load_generator(pair[1])[1]))
    assert weights < len(a) < weights + 40_000
    assert len(a) - len(c) > 0.4 * weights
    for folder in (ROOT, tmp_path, pair[1].parent, Path(sys.prefix)):
        assert os.fsencode(folder) not in a


@pytest.mark.slow
def test_the_example_script_runs_without_esrgan_jax(tmp_path, pair, rng):
    output = tmp_path / "gan.stablehlo"
    done = run_tool(pair[1], output)
    assert (done.returncode, done.stderr) == (0, "")
    image = rng.integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "lr.png")
    example = ROOT / "docs" / "examples" / "run_exported.py"
    command = [sys.executable, "-I", "-c", WITHOUT_PACKAGE, example, output]
    command += [tmp_path / "lr.png", tmp_path / "sr.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lr = image[None].astype(np.float32) / 255
    expected = np.rint(255 * expected_of(*load_generator(pair[1]), lr)[0])
    result = np.asarray(Image.open(tmp_path / "sr.png"))
    assert result.shape == (24, 36, 3)
    assert np.abs(result - expected).max() <= 1  # values near .5 may round either way


def test_wrong_arguments_are_refused(tmp_path, pair):
    psnr, gan = pair
    output = tmp_path / "x.stablehlo"
    before = gan.read_bytes()
    for arguments, message in (
        ([gan, gan], "this suffix is for weight files"),
        ([gan, tmp_path / "x.PTH"], "name it NAME.stablehlo"),
        ([gan, output, "--platforms=cpu,gpu"], "no platform 'gpu'; choose from cpu, cuda, tpu"),
        ([gan, output, "--platforms="], "no platform ''"),
        ([gan, output, "--alpha=0.5"], "--psnr_model and --alpha go together"),
        ([gan, output, f"--psnr_model={psnr}"], "--psnr_model and --alpha go together"),
        ([gan, output, f"--psnr_model={gan}", "--alpha=1"], "are the same network"),
        ([gan, output, f"--psnr_model={psnr}", "--alpha=nan"], "must be finite"),
        ([tmp_path / "none.pth", output], r"none\.pth: no such file"),
        ([tmp_path, output], "holds no checkpoint"),
        ([gan, tmp_path], "cannot be written: it is a folder"),
        ([gan, tmp_path / "no" / "x.stablehlo"], "there is no folder"),
    ):
        with pytest.raises(InputError, match=message):
            export.main([str(argument) for argument in arguments])
    assert gan.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


def test_input_files_are_not_overwritten(tmp_path, pair):
    psnr, gan = pair
    link = tmp_path / "link.stablehlo"
    link.symlink_to(psnr)
    for arguments in ([psnr, link], [gan, link, f"--psnr_model={psnr}", "--alpha=0.5"]):
        with pytest.raises(InputError, match="would overwrite the input"):
            export.main([str(argument) for argument in arguments])


def test_missing_flatbuffers_is_reported(tmp_path, pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(InputError, match=r"need flatbuffers, .*: pip install 'flatbuffers'"):
        export.main([str(pair[1]), str(tmp_path / "x.stablehlo")])


def test_wrong_arguments_exit_with_code_2(tmp_path, pair):
    done = run_tool(pair[1], tmp_path / "x.stablehlo", "--platforms=gpu")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --platforms=gpu: ")
    assert done.stderr.count("\n") == 1
