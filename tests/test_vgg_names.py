"""Tests of reading, converting and storing VGG weights, and of the command that converts them."""

import hashlib
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.errors import InputError, run_command
from esrgan_jax.interop import safetensors_file, vgg_names, weight_file
from esrgan_jax.interop.known_weights import ZOO
from esrgan_jax.interop.vgg_names import from_torch, load_vgg, save_vgg
from esrgan_jax.models.vgg import VGGFeatures
from tools import convert_vgg

TOOL = Path(__file__).parents[1] / "tools" / "convert_vgg.py"
INDICES = {  # of the convolutions in torchvision's `features`
    16: [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
    19: [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
}
WIDTHS = {
    16: [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6,
    19: [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8,
}
PARAMETERS = {16: 14_714_688, 19: 20_024_384}  # of all convolutions


def torch_vgg(depth, count=None, prefix="features."):
    """Returns tensors of VGG's shapes; each kernel has one value and takes no memory."""
    tensors, columns = {}, 3
    for index, rows in list(zip(INDICES[depth], WIDTHS[depth], strict=True))[:count]:
        kernel = np.broadcast_to(np.float32(index + 1), (rows, columns, 3, 3))
        tensors[f"{prefix}{index}.weight"] = kernel
        tensors[f"{prefix}{index}.bias"] = np.full(rows, index, np.float32)
        columns = rows
    return tensors


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize("prefix", ["features.", ""])
def test_the_tree_matches_vggfeatures(depth, prefix):
    tensors = torch_vgg(depth, prefix=prefix) | {
        "classifier.0.weight": np.zeros((8, 8), np.float32)
    }
    found, params = from_torch(tensors)
    assert found == depth
    last = {16: "conv5_3", 19: "conv5_4"}[depth]
    network = VGGFeatures((last,), depth)
    image = jnp.zeros((1, 32, 32, 3))
    expected = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    shapes = jax.tree.map(lambda a: (a.shape, a.dtype), params)
    assert shapes == jax.tree.map(lambda a: (a.shape, a.dtype), expected)
    layers = vgg_names.present_layers(params)
    assert (layers[0], layers[-1]) == ("conv1_1", last)
    assert sum(a.size for layer in layers for a in params[layer].values()) == PARAMETERS[depth]
    for layer, index in zip(layers, INDICES[depth], strict=True):
        assert params[layer]["kernel"][1, 1, 0, 0] == index + 1
        assert params[layer]["bias"][0] == index


def test_kernels_are_transposed(rng):
    tensors = torch_vgg(19, 2)
    kernel = rng.standard_normal((64, 64, 3, 3)).astype(np.float16)
    _, params = from_torch(tensors | {"features.2.weight": kernel})
    assert params["conv1_2"]["kernel"].dtype == np.float32
    assert params["conv1_2"]["kernel"][0, 2, 5, 7] == kernel[7, 5, 0, 2]


@pytest.mark.parametrize(
    ("depth", "count", "found", "last"),
    [
        (19, 1, 19, "conv1_1"),
        (16, 7, 19, "conv3_3"),
        (16, 8, 16, "conv4_1"),
        (19, 9, 19, "conv4_1"),
    ],
)
def test_files_with_only_lower_layers(tmp_path, depth, count, found, last):
    depth, params = from_torch(torch_vgg(depth, count))
    assert depth == found
    assert vgg_names.present_layers(params)[-1] == last
    save_vgg(tmp_path / "vgg.safetensors", params, {"depth": str(depth)})
    depth, back = load_vgg(tmp_path / "vgg.safetensors")
    assert depth == found
    assert vgg_names.present_layers(back)[-1] == last


def test_missing_layers_are_listed():
    _, params = from_torch(torch_vgg(19, 3))
    assert vgg_names.present_layers(params) == ["conv1_1", "conv1_2", "conv2_1"]
    assert vgg_names.missing_layers(params, ("relu2_1", "conv1_1"), 19) == []
    assert vgg_names.missing_layers(params, ("conv1_1", "conv3_1"), 19) == ["conv2_2", "conv3_1"]
    assert vgg_names.missing_layers({}, ("relu1_1",), 16) == ["conv1_1"]


@pytest.mark.parametrize("preset", vgg_names.PRESETS)
def test_preprocessing_has_its_closed_form(preset, rng):
    """conv1_1 is set to the identity, so its output is the preprocessed image."""
    kernel = np.zeros((64, 3, 3, 3), np.float32)
    kernel[range(3), range(3), 1, 1] = 1
    tensors = {"features.0.weight": kernel, "features.0.bias": np.zeros(64, np.float32)}
    _, params = from_torch(tensors, preset)
    rgb = rng.random((1, 4, 4, 3), np.float32)
    seen = VGGFeatures(("conv1_1",)).apply({"params": params}, rgb)["conv1_1"][..., :3]
    if preset == "torchvision":
        expected = (rgb - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    else:
        mean = {"caffe": [103.939, 116.779, 123.68], "minc": [104, 117, 124]}[preset]
        expected = (255 * rgb[..., ::-1] - mean) / 12.75
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-5)


def changed(**tensors):
    network = torch_vgg(19, 4)
    for name, tensor in tensors.items():
        if tensor is None:
            del network[f"features.{name}"]
        else:
            network[f"features.{name}"] = tensor
    return network


WRONG = {
    "missing: features.5.bias": changed(**{"5.bias": None}),
    "missing: features.2.weight, features.2.bias": changed(**{"2.weight": None, "2.bias": None}),
    r"left over: features.1.running_mean": changed(**{"1.running_mean": np.zeros(64)}),
    r"another shape: features.2.bias \(3,\) for \(64,\)": changed(**{"2.bias": np.zeros(3)}),
    "not floating-point: features.2.bias int64": changed(**{"2.bias": np.arange(64)}),
    r"features.0.weight \(64, 3, 11, 11\)": changed(**{"0.weight": np.zeros((64, 3, 11, 11))}),
    "missing: features.0.weight, features.0.bias; left over: conv_first": {
        "conv_first.weight": np.zeros((64, 3, 3, 3))
    },
}


@pytest.mark.parametrize("message", WRONG)
def test_other_networks_are_refused_with_lists_of_differences(message):
    with pytest.raises(InputError, match=rf"file\.pth: no VGG16 or VGG19.*{message}"):
        from_torch(WRONG[message], "caffe", "file.pth")


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match="no preset keras; there are torchvision, caffe, minc"):
        from_torch(torch_vgg(19, 1), "keras")


def test_read_vgg_guesses_no_preset_but_that_of_torchvisions_files(tmp_path, monkeypatch):
    """For files of Keras and Caffe see test_keras_file.py and test_caffe_file.py."""
    path = tmp_path / "vgg.npz"
    weight_file.write_tensors(path, torch_vgg(19, 1))
    with pytest.raises(InputError, match=r"vgg\.npz: which input .* not known.*--preset=caffe"):
        vgg_names.read_vgg(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert ZOO["vgg19"].sha256.startswith(vgg_names.TORCHVISION)
    monkeypatch.setattr(vgg_names, "TORCHVISION", (digest[:8],))
    for given, preset in ((None, "torchvision"), ("torchvision", "torchvision"), ("minc", "minc")):
        depth, params, found = vgg_names.read_vgg(path, given)
        assert (depth, found) == (19, preset)
        np.testing.assert_allclose(params["input"]["mean"], vgg_names.PRESETS[preset]["mean"])


def test_read_vgg_refuses_missing_and_unknown_files(tmp_path):
    (tmp_path / "vgg.pb").write_bytes(b"")
    (tmp_path / "folder.h5").mkdir()
    for name, message in (
        ("absent.h5", "no such file"),
        ("absent.caffemodel", "no such file"),
        ("folder.h5", "is a folder"),
        ("vgg.pb", r"\.pb is not a weight file; accepted are .*\.npz, \.h5, .*\.caffemodel"),
    ):
        with pytest.raises(InputError, match=f"{name}: {message}"):
            vgg_names.read_vgg(tmp_path / name)


def test_load_vgg_refuses_other_and_damaged_files(tmp_path):
    path = tmp_path / "vgg.safetensors"
    depth, params = from_torch(torch_vgg(19, 2))
    with pytest.raises(InputError, match="no such file"):
        load_vgg(path)
    weight_file.write_tensors(path, torch_vgg(19, 2))
    with pytest.raises(InputError, match=r"esrgan-jax convert-vgg"):
        load_vgg(path)
    with pytest.raises(InputError, match=r"kept in a \.safetensors file"):
        save_vgg(tmp_path / "vgg.npz", params, {"depth": str(depth)})
    for metadata in ({}, {"depth": "17"}):
        save_vgg(path, params, metadata)
        with pytest.raises(InputError, match="not converted VGG weights"):
            load_vgg(path)
    for key, value, message in (
        ("conv1_2", {"kernel": np.zeros((3, 3, 64, 64), np.float32)}, "missing: conv1_2/bias"),
        ("conv3_1", {"kernel": np.zeros(1, np.float32)}, "conv3_1/kernel"),
        ("feature_scale", np.zeros(2, np.float32), "another shape: feature_scale"),
        ("input", {**params["input"], "order": np.array([0, 1, 1])}, "no order of three channels"),
    ):
        save_vgg(path, params | {key: value}, {"depth": "19"})
        with pytest.raises(InputError, match=message):
            load_vgg(path)


def run_tool(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def exit_code(monkeypatch):
    """Returns a function that runs the command in this process, and returns its exit code."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            run_command(convert_vgg.main)
        return exit.value.code or 0

    return run


def test_the_command_converts_published_weights(shared_data, tmp_path):
    source = shared_data / "vgg" / "vgg19_caffe_conv.npz"
    path = tmp_path / "vgg19.safetensors"
    done = run_tool(source, path, "--preset=caffe")
    assert (done.returncode, done.stderr) == (0, "")
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    for message in ("VGG19", "conv1_1 to conv5_4 (16 conv", "20,024,384", "caffe", sha256):
        assert message in done.stdout
    assert safetensors_file.read_metadata(path) == {
        "format": "esrgan_jax.vgg/1",
        "depth": "19",
        "preset": "caffe",
        "source": "vgg19_caffe_conv.npz",
        "sha256": sha256,
    }
    depth, params = load_vgg(path)
    assert depth == 19
    with np.load(source) as original:
        for layer, index in zip(vgg_names.present_layers(params), INDICES[19], strict=True):
            kernel = original[f"features.{index}.weight"]
            np.testing.assert_array_equal(params[layer]["kernel"].transpose(3, 2, 0, 1), kernel)
            np.testing.assert_array_equal(params[layer]["bias"], original[f"features.{index}.bias"])
    assert params["feature_scale"] == np.float32(1 / 12.75)
    assert params["input"]["order"].tolist() == [2, 1, 0]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_the_command_reads_every_container(tmp_path, suffix, exit_code, capsys):
    source, path = tmp_path / f"source{suffix}", tmp_path / "vgg.safetensors"
    weight_file.write_tensors(source, torch_vgg(16, 3))
    assert exit_code(source, path, "--preset=torchvision") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "conv1_1 to conv2_1 (3 convolutions)" in out
    assert "preset      torchvision\n" in out
    assert load_vgg(path)[1]["conv2_1"]["kernel"].shape == (3, 3, 64, 128)


def test_the_command_refuses_wrong_arguments_with_a_message(tmp_path, exit_code, capsys):
    source = tmp_path / "source.npz"
    weight_file.write_tensors(source, {"a": np.zeros(3)})
    vgg = tmp_path / "torchvision.npz"
    weight_file.write_tensors(vgg, torch_vgg(19, 1))
    target = tmp_path / "vgg.safetensors"
    for arguments, message in (
        ((source, target), "no VGG16 or VGG19"),
        ((vgg, target), "which input these weights were trained on is not known"),
        ((source, tmp_path / "vgg.npz"), "DST must end in .safetensors"),
        ((tmp_path / "absent.npz", target), "no such file"),
        ((TOOL, target), ".py is not a weight file"),
        ((source, target, "--preset=keras"), "'torchvision', 'caffe', 'minc'"),
    ):
        assert exit_code(*arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith(("error: ", "usage: "))
        assert message in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["source.npz", "torchvision.npz"]
