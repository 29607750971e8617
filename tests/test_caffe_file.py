"""Reading Caffe models, which the tests write with protobuf and Caffe's message definitions."""

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import jax
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from esrgan_jax.errors import InputError
from esrgan_jax.interop import caffe_file, safetensors_file, vgg_names, weight_file

TOOL = Path(__file__).parents[1] / "tools" / "convert_vgg.py"
CONVOLUTION = 4  # of V1LayerParameter.LayerType
# (name, number, type, repeated, packed); a type in capitals is protobuf's, another a message
MESSAGES = {
    "BlobShape": [("dim", 1, "INT64", True, True)],
    "BlobProto": [
        *[
            (n, i, "INT32", False, False)
            for i, n in enumerate(("num", "channels", "height", "width"), 1)
        ],
        ("data", 5, "FLOAT", True, True),
        ("diff", 6, "FLOAT", True, True),
        ("shape", 7, "BlobShape", False, False),
        ("double_data", 8, "DOUBLE", True, True),
        ("raw_data_type", 10, "INT32", False, False),
        ("raw_data", 12, "BYTES", False, False),
    ],
    "V1LayerParameter": [
        ("bottom", 2, "STRING", True, False),
        ("top", 3, "STRING", True, False),
        ("name", 4, "STRING", False, False),
        ("type", 5, "INT32", False, False),
        ("blobs", 6, "BlobProto", True, False),
        ("blobs_lr", 7, "FLOAT", True, False),
    ],
    "LayerParameter": [
        ("name", 1, "STRING", False, False),
        ("type", 2, "STRING", False, False),
        ("blobs", 7, "BlobProto", True, False),
    ],
    "NetParameter": [
        ("name", 1, "STRING", False, False),
        ("layers", 2, "V1LayerParameter", True, False),
        ("input", 3, "STRING", True, False),
        ("input_dim", 4, "INT32", True, False),
        ("layer", 100, "LayerParameter", True, False),
    ],
}


def caffe_classes(packing):
    """Returns protobuf's classes for the messages above, with or without packed lists."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated, packed in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind.isupper():
                added.type = getattr(kinds, f"TYPE_{kind}")
            else:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            if packed:
                added.options.packed = packing
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in MESSAGES
    }


PACKED, UNPACKED = caffe_classes(True), caffe_classes(False)


def fill(blob, array, legacy):
    if legacy:
        dims = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = dims
    else:
        blob.shape.dim.extend(array.shape)
    (blob.double_data if array.dtype == np.float64 else blob.data).extend(array.ravel().tolist())


def model(layers, form="layer", classes=PACKED):
    """Returns a NetParameter of {layer: arrays}, with a layer without arrays after each."""
    net = classes["NetParameter"](name="VGG", input=["data"], input_dim=[10, 3, 224, 224])
    for name, arrays in layers.items():
        layer = getattr(net, form).add(name=name)
        layer.type = CONVOLUTION if form == "layers" else "Convolution"
        if form == "layers":
            layer.bottom.append("data")
            layer.blobs_lr.extend([1, 2])
        for array in arrays:
            fill(layer.blobs.add(), array, form == "layers")
        getattr(net, form).add(name=f"relu_{name}")
    return net


def convolutions(rng, depth=19, count=3):
    layers = list(vgg_names.convolutions(depth).items())[:count]
    return {
        name: [rng.standard_normal(s, np.float32) / 50 for s in (shape, shape[:1])]
        for name, (_, shape) in layers
    }


def as_torch(layers, depth=19):
    indices = vgg_names.convolutions(depth)
    return {
        f"features.{indices[name][0]}.{kind}": array
        for name, arrays in layers.items()
        for kind, array in zip(("weight", "bias"), arrays, strict=True)
    }


def write(path, net):
    path.write_bytes(net if isinstance(net, bytes) else net.SerializeToString())
    return path


@pytest.mark.parametrize("classes", [PACKED, UNPACKED], ids=["packed", "unpacked"])
@pytest.mark.parametrize("form", ["layers", "layer"])
def test_all_forms_give_the_same_parameters_as_torch_names(tmp_path, rng, form, classes):
    layers = convolutions(rng)
    classifier = {"fc8-20": [np.zeros((23, 8), np.float32), np.zeros(23, np.float32)]}
    path = write(tmp_path / "vgg.caffemodel", model(layers | classifier, form, classes))
    depth, params, preset = vgg_names.read_vgg(path)
    assert (depth, preset) == (19, "caffe")
    expected = vgg_names.from_torch(as_torch(layers), "caffe")[1]
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize(
    ("depth", "count", "found"), [(16, 13, 16), (19, 16, 19), (16, 8, 16), (16, 7, 19), (19, 9, 19)]
)
def test_vgg16_and_vgg19_are_distinguished_by_their_layers(depth, count, found):
    """All layer names of VGG16 also occur in VGG19. The tensors here take no memory."""
    tensors = {}
    for name, (_, shape) in list(vgg_names.convolutions(depth).items())[:count]:
        tensors[f"{name}.weight"] = np.broadcast_to(np.float32(count), shape)
        tensors[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    assert vgg_names.from_layers(tensors, "Caffe", "minc")[0] == found
    del tensors["conv2_1.weight"]
    with pytest.raises(InputError, match=r"Caffe's names .*: missing: conv2_1\.weight$"):
        vgg_names.from_layers(tensors, "Caffe", "minc")


def test_arrays_are_read_only_views_of_any_float_type(tmp_path, rng):
    kernel = rng.standard_normal((64, 3, 3, 3))
    net = model({"conv1_1": [kernel, np.ones(64, np.float32)]})
    tensors = caffe_file.read(write(tmp_path / "vgg.caffemodel", net))
    assert list(tensors) == ["conv1_1.weight", "conv1_1.bias"]
    np.testing.assert_array_equal(tensors["conv1_1.weight"], kernel)
    assert not any(array.flags.owndata or array.flags.writeable for array in tensors.values())


def test_repeated_fields_are_merged(tmp_path, rng):
    """By protobuf's rules, serialised messages that follow each other are one message."""
    kernel, bias = convolutions(rng, count=1)["conv1_1"]
    numbers = kernel.ravel().tolist()
    blob = b"".join(
        classes["BlobProto"](**fields).SerializeToString()
        for classes, fields in (
            (PACKED, {"data": numbers[:5]}),
            (UNPACKED, {"data": numbers[5:700], "shape": {"dim": kernel.shape}}),
            (PACKED, {"data": numbers[700:]}),
        )
    )
    second = PACKED["BlobProto"](data=bias.tolist(), shape={"dim": bias.shape}).SerializeToString()
    path = write(tmp_path / "vgg.caffemodel", net_of(blob_of(blob), blob_of(second)))
    tensors = caffe_file.read(path)
    np.testing.assert_array_equal(tensors["conv1_1.weight"], kernel)
    np.testing.assert_array_equal(tensors["conv1_1.bias"], bias)


def varint(number):
    low = [number >> shift & 0x7F for shift in range(0, max(1, number.bit_length()), 7)]
    return bytes([byte | 0x80 for byte in low[:-1]] + low[-1:])


def net_of(*fields):
    """Returns a net with a layer conv1_1 that has these fields, in wire format."""
    layer = b"\x0a\x07conv1_1" + b"".join(fields)
    return b"\xa2\x06" + varint(len(layer)) + layer


def blob_of(*fields):
    blob = b"".join(fields)
    return b"\x3a" + varint(len(blob)) + blob


ONE = np.float32(1).tobytes()
HOSTILE = {
    "is empty": b"",
    "it is another kind of file": bytes(100),
    "unknown wire type 4": b"<html>, as a failed download",
    "a layer is a number": b"\x10\x01",
    "a layer's name is a number": b"\xa2\x06\x02\x08\x01",
    "a blob is a number": net_of(b"\x38\x01"),
    "a blob's data is a number": net_of(blob_of(b"\x28\x01")),
    "a shape is a number": net_of(blob_of(b"\x38\x01")),
    "an endless number": b"\x08" + b"\xff" * 40,
    "ends too early": b"\x12" + varint(2**62) + b"\x00",
    "weight has no data": net_of(blob_of(b"\x08\x01")),
    "raw form of NVCaffe": net_of(blob_of(b"\x50\x02\x62\x04" + ONE)),
    "middle of a number": net_of(blob_of(b"\x2a\x03abc")),
    r"has 1 numbers for the shape \[9223372036854775808\]": net_of(
        blob_of(b"\x2a\x04", ONE, b"\x3a\x0c\x0a\x0a" + b"\x80" * 9 + b"\x01")
    ),
    r"has 1 numbers for the shape \[0, 0, 0, 0\]": net_of(blob_of(b"\x2a\x04", ONE)),
    r"for the shape \[1, 1, 1, 1, 1, 1, 1, 1\]": net_of(
        blob_of(b"\x2a\x04", ONE, b"\x3a\x64\x0a\x62", b"\x01" * 98)
    ),
    "has more than weights and a bias": net_of(*[blob_of(b"\x2a\x04", ONE)] * 100),
    "over 4096 fields": b"\x08\x00" * 10_000,
    "conv1_1 is there twice": net_of(blob_of(b"\x2a\x04", ONE, b"\x3a\x02\x08\x01")) * 2,
    r"has no layers conv1_1, .* but none at all": b"\x08\x00",
    r"no layers conv1_1, .* but res2a, ,.*Give a VGG16": b"\xa2\x06\x07\x0a\x05res2a\xa2\x06\x00"
    * 5,
}


@pytest.mark.parametrize("message", HOSTILE)
def test_malformed_files_are_refused_with_the_reason(tmp_path, message):
    path = write(tmp_path / "vgg.caffemodel", HOSTILE[message])
    with pytest.raises(InputError, match=rf"vgg\.caffemodel: .*{message}"):
        vgg_names.read_vgg(path)


def test_other_networks_are_refused_with_the_layers_that_differ(tmp_path, rng):
    (kernel, bias) = convolutions(rng, count=1)["conv1_1"]
    for layers, message in (
        ({"conv1_1": [kernel]}, r"missing: conv1_1\.bias"),
        ({"conv1_1": [kernel[:32], bias]}, r"conv1_1\.weight \(32, 3, 3, 3\) for \(64, 3, 3, 3\)"),
        ({"conv1_1": [kernel, bias], "conv6_1": [bias]}, r"left over: conv6_1\.weight"),
    ):
        path = write(tmp_path / "vgg.caffemodel", model(layers))
        with pytest.raises(InputError, match=rf"vgg\.caffemodel: no VGG16 or VGG19.*{message}"):
            vgg_names.read_vgg(path)


@pytest.mark.parametrize("form", ["layers", "layer"])
def test_files_truncated_at_any_byte_are_refused(tmp_path, rng, form):
    """A file cut between two layers is a valid file of the layers before the cut."""
    content = model(convolutions(rng, count=2), form).SerializeToString()
    end = len(content)
    ends = {*range(120), *range(0, end, 997), *range(end - 60, end + 1)}
    found = {}
    for size in sorted(ends):
        path = write(tmp_path / "vgg.caffemodel", content[:size])
        try:
            found[size] = len(vgg_names.present_layers(vgg_names.read_vgg(path)[1]))
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
    assert found[end] == 2
    for size in ends:
        try:
            net = PACKED["NetParameter"].FromString(content[:size])
        except DecodeError:
            assert size not in found
        else:
            layers = [layer for layer in getattr(net, form) if layer.blobs]
            assert found.get(size, 0) == len(layers)


def test_random_damage_raises_only_input_errors(tmp_path, rng):
    content = model(convolutions(rng, count=1)).SerializeToString()
    for _ in range(300):
        damaged = bytearray(content)
        for index in rng.integers(0, 80, rng.integers(1, 4)):
            damaged[index] = rng.integers(256)
        path = write(tmp_path / "vgg.caffemodel", bytes(damaged))
        try:
            vgg_names.read_vgg(path)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_files_of_many_tiny_fields_take_little_memory_and_time(tmp_path):
    """Files of 2 MB that consist of the smallest fields the format has."""
    contents = {
        "empty layers": b"\x12\x00" * 1_000_000,
        "empty blobs": net_of(b"\x3a\x00" * 1_000_000),
        "empty lists": net_of(blob_of(b"\x2a\x00" * 1_000_000)),
        "dimensions": net_of(
            blob_of(b"\x3a" + varint(2_000_002) + b"\x0a" + varint(1_999_998), b"\x01" * 1_999_998)
        ),
        "mixed tags": net_of(blob_of((b"\x2d" + ONE + b"\x35" + ONE) * 200_000)),
    }
    for content in contents.values():
        path = write(tmp_path / "vgg.caffemodel", content)
        tracemalloc.start()
        start = time.process_time()
        with pytest.raises(InputError):
            vgg_names.read_vgg(path)
        assert time.process_time() - start < 5
        assert tracemalloc.get_traced_memory()[1] < 2 * len(content)
        tracemalloc.stop()


@pytest.mark.slow
def test_convert_vgg_converts_the_real_weights(shared_data, tmp_path):
    """The weights are those of Oxford's .caffemodel, without the classifier."""
    original = shared_data / "vgg" / "vgg19_caffe_conv.npz"
    tensors = weight_file.read_tensors(original)
    net = PACKED["NetParameter"](name="VGG_ILSVRC_19_layers")
    for name, (index, _) in vgg_names.convolutions(19).items():
        layer = net.layers.add(name=name, type=CONVOLUTION)
        for kind in ("weight", "bias"):
            fill(layer.blobs.add(), tensors[f"features.{index}.{kind}"], True)
    path = write(tmp_path / "VGG_ILSVRC_19_layers.caffemodel", net)
    target = tmp_path / "vgg19.safetensors"
    command = [sys.executable, str(TOOL), str(path), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for message in ("VGG19", "conv1_1 to conv5_4 (16 conv", "20,024,384", "preset      caffe"):
        assert message in done.stdout
    expected = vgg_names.from_torch(tensors, "caffe")[1]
    jax.tree.map(np.testing.assert_array_equal, vgg_names.load_vgg(target)[1], expected)
    assert safetensors_file.read_metadata(target)["preset"] == "caffe"
    path.unlink()  # pytest would keep the 80 MB
