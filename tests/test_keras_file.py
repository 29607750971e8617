"""Reading Keras' HDF5 files, which the tests write with h5py as Keras 1, 2 and 3 do."""

import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.interop import keras_file, safetensors_file, vgg_names, weight_file

TOOL = Path(__file__).parents[1] / "tools" / "convert_vgg.py"


def keras_name(layer):
    return f"block{layer[4]}_conv{layer[6:]}"


def convolutions(rng, depth=19, count=3):
    """Returns {block1_conv1: (kernel, bias)}; the kernels are HWIO."""
    tensors = {}
    for layer, (_, (rows, columns, *size)) in list(vgg_names.convolutions(depth).items())[:count]:
        kernel = rng.standard_normal((*size, columns, rows), np.float32) / 50
        tensors[keras_name(layer)] = kernel, rng.standard_normal(rows, np.float32)
    return tensors


def as_torch(tensors):
    indices = {keras_name(name): index for name, (index, _) in vgg_names.convolutions(19).items()}
    kinds = ("weight", "bias")
    return {
        f"features.{indices[layer]}.{kind}": array.transpose(3, 2, 0, 1)
        if array.ndim > 1
        else array
        for layer, arrays in tensors.items()
        for kind, array in zip(kinds, arrays, strict=True)
    }


def save_weights(group, tensors, forms):
    """Writes weights as Keras 1 and 2 do, with layer and weight names in attributes too."""
    group.attrs["layer_names"] = np.array(["input_1", *tensors, "flatten"], "S")
    group.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
    for layer, arrays in tensors.items():
        names = [form.format(layer) for form in forms]
        group.create_group(layer).attrs["weight_names"] = np.array(names, "S")
        for name, array in zip(names, arrays, strict=True):
            group[layer].create_dataset(name, data=array)


def keras1(path, tensors):
    with h5py.File(path, "w") as file:
        save_weights(file, tensors, ("{}_W_1:0", "{}_b_1:0"))


def keras2(path, tensors, group="/", forms=("{0}/kernel:0", "{0}/bias:0"), backend=b"tensorflow"):
    with h5py.File(path, "w") as file:
        group = file.require_group(group)
        group.attrs["backend"], group.attrs["keras_version"] = backend, b"2.2.4"
        save_weights(group, tensors, forms)


def keras2_model(path, tensors):
    keras2(path, tensors, "model_weights")
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = b"{}"
        for layer, arrays in tensors.items():
            moment = f"optimizer_weights/Adam/{layer}/kernel/m:0"
            file.create_dataset(moment, data=np.zeros_like(arrays[0]))


def keras2_inside_another_model(path, tensors):
    """Writes one group with all weights of the inner network."""
    with h5py.File(path, "w") as file:
        inner = file.create_group("model_weights/vgg19")
        for layer, (kernel, bias) in tensors.items():
            inner[f"{layer}/kernel:0"], inner[f"{layer}/bias:0"] = kernel, bias
        file["model_weights/dense_1/dense_1/kernel:0"] = np.zeros((4, 4))


def keras2_second_network(path, tensors):
    keras2(path, tensors, forms=("{0}_1/kernel:0", "{0}_1/bias:0"))


def keras3(path, tensors, layers="layers", name="{}"):
    with h5py.File(path, "w") as file:
        for index, (layer, arrays) in enumerate(tensors.items()):
            layer_name = name.format(layer) if index == 0 or "{" in name else f"{name}_{index}"
            for number, array in enumerate(arrays):
                file[f"{layers}/{layer_name}/vars/{number}"] = array
        file["layers/dense/vars/0"] = np.zeros((4, 4), np.float32)
        file["optimizer/vars/0"] = np.int64(3)


def keras3_whole_model(path, tensors):
    """Writes a file like that of `model.save("x.h5")` in Keras 3."""
    keras2(path, tensors, "model_weights", ("{0}/kernel", "{0}/bias"))


def keras3_inside_another_model(path, tensors):
    keras3(path, tensors, "layers/vgg19/layers")


LAYOUTS = [
    *(keras1, keras2, keras2_model, keras2_inside_another_model, keras2_second_network),
    *(keras3, keras3_whole_model, keras3_inside_another_model),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_all_layouts_give_the_same_parameters_as_torch_names(tmp_path, rng, layout):
    tensors = convolutions(rng)
    dense = (np.zeros((8, 4), np.float32), np.zeros(4, np.float32))
    top = {"fc1": dense, "predictions": dense} if layout in (keras1, keras2) else {}
    layout(tmp_path / "vgg.weights.h5", tensors | top)
    depth, params, preset = vgg_names.read_vgg(tmp_path / "vgg.weights.h5")
    assert (depth, preset) == (19, "caffe")
    expected = vgg_names.from_torch(as_torch(tensors), "caffe")[1]
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_depth_and_last_layer_are_found(tmp_path, rng):
    for depth, count, found, last in ((16, 8, 16, "conv4_1"), (16, 7, 19, "conv3_3")):
        path = tmp_path / "vgg.h5"
        keras1(path, convolutions(rng, depth, count))
        depth, params, _ = vgg_names.read_vgg(path)
        assert (depth, vgg_names.present_layers(params)[-1]) == (found, last)


def test_arrays_are_read_only_views_in_any_byte_order(tmp_path, rng):
    kernel, bias = convolutions(rng)["block1_conv1"]
    keras1(tmp_path / "vgg.h5", {"block1_conv1": (kernel.astype(">f8"), bias.astype("<f2"))})
    tensors = keras_file.read(tmp_path / "vgg.h5")
    assert list(tensors) == ["block1_conv1.weight", "block1_conv1.bias"]
    np.testing.assert_array_equal(tensors["block1_conv1.weight"], kernel)
    np.testing.assert_array_equal(tensors["block1_conv1.bias"], bias.astype(np.float16))
    assert not any(array.flags.owndata or array.flags.writeable for array in tensors.values())


def write_theano(path, tensors):
    keras1(
        path, {k: (w.transpose(3, 2, 0, 1)[..., ::-1, ::-1], b) for k, (w, b) in tensors.items()}
    )


@pytest.mark.parametrize("name", ["vgg19_weights_th_dim_ordering_th_kernels.h5", "renamed.h5"])
def test_theano_kernels_are_refused(tmp_path, rng, name):
    write_theano(tmp_path / name, convolutions(rng))
    expected = f"{name}: has kernels in Theano.*take .*tf_dim_ordering_tf_kernels.h5"
    with pytest.raises(InputError, match=expected):
        vgg_names.read_vgg(tmp_path / name)


def test_theano_is_detected_by_backend_or_file_name(tmp_path, rng):
    """Such kernels are rotated by 180 degrees and have the usual shapes."""
    keras1(tmp_path / "vgg16_weights_tf_dim_ordering_th_kernels.h5", convolutions(rng))
    keras2(tmp_path / "a.h5", convolutions(rng), backend=b"theano")
    keras2(tmp_path / "b.h5", convolutions(rng), "model_weights", backend="theano")
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match=rf"{path.name}: has kernels in Theano's form"):
            vgg_names.read_vgg(path)


def with_file(change):
    """Returns a writer of lower VGG19 layers in Keras 2's layout, which then calls `change`."""

    def write(path, tensors):
        keras2(path, tensors)
        with h5py.File(path, "r+") as file:
            change(file, file.filename)

    return write


KERNEL, BIAS = "block1_conv1/block1_conv1/kernel:0", "block1_conv1/block1_conv1/bias:0"
SHAPE = (3, 3, 3, 64)


def replaced(name=KERNEL, **arguments):
    def change(file, _):
        del file[name]
        file.create_dataset(name, **arguments)

    return with_file(change)


def linked(link):
    def change(file, path):
        file.move("block1_conv1", "kept")
        file["block1_conv1"] = link(path)

    return with_file(change)


def virtual(file, path):
    layout = h5py.VirtualLayout(SHAPE, "f4")
    layout[...] = h5py.VirtualSource(f"{path}.source", "data", SHAPE)
    with h5py.File(f"{path}.source", "w") as source:
        source["data"] = np.ones(SHAPE, np.float32)
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def external(file, path):
    Path(f"{path}.raw").write_bytes(bytes(4 * 3 * 3 * 3 * 64))
    del file[KERNEL]
    file.create_dataset(KERNEL, SHAPE, "f4", external=[(f"{path}.raw", 0, h5py.h5f.UNLIMITED)])


def outside(path):
    """Writes another file with the layer and returns a link to it."""
    with h5py.File(f"{path}.other", "w") as other:
        other["block1_conv1/kernel:0"] = np.zeros(SHAPE, np.float32)
    return h5py.ExternalLink(f"{path}.other", "block1_conv1")


def deep(file, _):
    file["/".join("a" * 50)] = np.zeros(1)


def crowded(file, _):
    for index in range(10_001):
        file[f"a{index}"] = h5py.SoftLink("/")


def looped(file, _):
    """Adds cycles of hard links, which must be followed only once, and removes a bias."""
    file["block1_conv1/up"] = file["/"]
    file["block1_conv2/sideways"] = file["block1_conv1"]
    del file[BIAS]


def twice(file, _):
    file["model/block1_conv1/kernel:0"] = np.zeros(SHAPE, np.float32)


def resnet(path, _):
    names = ("conv1", "bn_conv1", "res2a_branch2a", "bn2a_branch2a")
    keras2(path, dict.fromkeys(names, (np.zeros((1, 1, 4, 4), np.float32), np.zeros(4))))


HUGE = (2**20, 2**20, 2**20)
PIECE = "is not in the file in one piece"
PIECE = r"kernel:0 is not in the file in one piece.* chunked, compressed, elsewhere or not at all"
HOSTILE = {
    "external link": (linked(outside), r"block1_conv1 is a link to elsewhere"),
    "soft link": (linked(lambda _: h5py.SoftLink("/kept")), r"block1_conv1 is a link to elsewhere"),
    "virtual": (with_file(virtual), PIECE),
    "external storage": (with_file(external), PIECE),
    "never written": (replaced(shape=SHAPE, dtype="f4"), PIECE),
    "huge": (replaced(shape=HUGE, dtype="f8"), PIECE),
    "huge, chunked": (replaced(shape=HUGE, dtype="f4", chunks=(1, 1, 1)), PIECE),
    "compressed": (replaced(data=np.zeros(SHAPE, np.float32), compression="gzip"), PIECE),
    "no shape": (replaced(data=h5py.Empty("f4")), PIECE),
    "integers": (replaced(data=np.zeros(SHAPE, np.int32)), r"kernel:0 has elements of int32"),
    "texts": (replaced(data=["text"] * 3), r"kernel:0 has elements of object"),
    "loops": (with_file(looped), r"missing: block1_conv1\.bias"),
    "deep": (with_file(deep), r"it has far more in it than a VGG"),
    "crowded": (with_file(crowded), r"it has far more in it than a VGG"),
    "twice": (with_file(twice), r"block1_conv1\.weight is there twice"),
    "another shape": (
        replaced(BIAS, data=np.zeros(3, "f4")),
        r"block1_conv1\.bias \(3,\) for \(64",
    ),
    "left over": (
        with_file(lambda file, _: file.create_dataset("block1_conv1/gamma:0", data=np.zeros(64))),
        r"left over: block1_conv1\.gamma",
    ),
    "ResNet": (resnet, r"no layers block1_conv1.*, but .*res2a_branch2a.*; give a VGG16 or VGG19"),
    "no layer's name": (lambda path, t: keras3(path, t, name="conv2d"), r"Keras 3 do not name"),
    "no HDF5": (lambda path, _: path.write_bytes(b"<html>"), r"cannot be read as a Keras file"),
    "empty": (lambda path, _: path.write_bytes(b""), r"is empty"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_other_files_are_refused(tmp_path, rng, case):
    path = tmp_path / "vgg.h5"
    write, expected = HOSTILE[case]
    write(path, convolutions(rng))
    tracemalloc.start()
    with pytest.raises(InputError, match=rf"vgg\.h5: .*{expected}"):
        vgg_names.read_vgg(path)
    assert tracemalloc.get_traced_memory()[1] < 2 * path.stat().st_size + 2**20
    tracemalloc.stop()


def test_tensors_that_share_bytes_are_refused(tmp_path):
    """Several datasets point to the bytes of one, so a small file claims many tensors."""
    path = tmp_path / "vgg.h5"
    kernel = np.ones((3, 3, 64, 64), np.float32)
    with h5py.File(path, "w") as file:
        file["block1_conv2/kernel:0"] = kernel
        offset = file["block1_conv2/kernel:0"].id.get_offset()
        for number in range(3, 9):
            file.create_dataset(f"block1_conv{number}/kernel:0", kernel.shape, "f4")
    content, size = path.read_bytes(), kernel.nbytes.to_bytes(8, "little")
    assert content.count(b"\xff" * 8 + size) == 6  # HDF5's undefined address, followed by a size
    path.write_bytes(content.replace(b"\xff" * 8 + size, offset.to_bytes(8, "little") + size))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["block1_conv8/kernel:0"], kernel)
    with pytest.raises(InputError, match=r"vgg\.h5: .*its tensors share the same bytes"):
        keras_file.read(path)


def test_files_truncated_at_any_byte_are_refused(tmp_path, rng):
    source, path = tmp_path / "source.h5", tmp_path / "vgg.h5"
    keras1(source, convolutions(rng, count=2))
    content = source.read_bytes()
    for size in {*range(0, 4096, 61), *range(0, len(content), 4999), len(content) - 1}:
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"vgg\.h5: "):
            vgg_names.read_vgg(path)


def test_keras_archives_are_refused_with_the_command_to_unzip(tmp_path):
    with zipfile.ZipFile(tmp_path / "vgg19.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(InputError, match=r"unzip vgg19\.keras model\.weights\.h5"):
        vgg_names.read_vgg(tmp_path / "vgg19.keras")


def test_missing_h5py_is_reported(tmp_path, rng, monkeypatch):
    keras1(tmp_path / "vgg.h5", convolutions(rng, count=1))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"vgg\.h5: Keras' files need h5py, .* 'h5py'"):
        vgg_names.read_vgg(tmp_path / "vgg.h5")


def test_convert_vgg_converts_the_real_weights(shared_data, tmp_path):
    """The weights are those of Keras' published file, without the classifier (…_notop.h5)."""
    tensors = weight_file.read_tensors(shared_data / "vgg" / "vgg19_caffe_conv.npz")
    path = tmp_path / "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
    target = tmp_path / "vgg19.safetensors"
    layers = {}
    for name, (index, _) in vgg_names.convolutions(19).items():
        kernel = tensors[f"features.{index}.weight"].transpose(2, 3, 1, 0)
        layers[keras_name(name)] = kernel, tensors[f"features.{index}.bias"]
    keras1(path, layers)
    command = [sys.executable, str(TOOL), str(path), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("VGG19", "conv1_1 to conv5_4 (16 conv", "20,024,384", "preset      caffe"):
        assert part in done.stdout
    expected = vgg_names.from_torch(tensors, "caffe")[1]
    jax.tree.map(np.testing.assert_array_equal, vgg_names.load_vgg(target)[1], expected)
    assert safetensors_file.read_metadata(target)["preset"] == "caffe"
    path.unlink()  # pytest would keep the 80 MB
