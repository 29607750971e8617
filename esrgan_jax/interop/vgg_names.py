"""Converts VGG weights of torchvision, Keras and Caffe to VGGFeatures' parameters."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from esrgan_jax.errors import InputError
from esrgan_jax.files import sha256
from esrgan_jax.interop import caffe_file, keras_file, safetensors_file, weight_file
from esrgan_jax.models.vgg import STAGE_CONVOLUTIONS, WIDTHS, layer_names

VGG_FORMAT = "esrgan_jax.vgg/1"  # in the header of our files
CAFFE_SUFFIX = ".caffemodel"

# What the weights want to see: x = (rgb in [0, 1] * scale)[order], then (x - mean) / std. The
# features are multiplied with feature_scale, so that a perceptual weight means the same for both.
PRESETS: dict[str, dict[str, Any]] = {
    "torchvision": {
        "order": (0, 1, 2),
        "scale": 1.0,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "feature_scale": 1.0,
    },
    "caffe": {  # the original weights of Oxford, which Keras has too
        "order": (2, 1, 0),
        "scale": 255.0,
        "mean": (103.939, 116.779, 123.68),
        "std": (1.0, 1.0, 1.0),
        "feature_scale": 1 / 12.75,  # SRGAN (arXiv 1609.04802 §2.2.1)
    },
    "minc": {  # Oxford's VGG16 trained further on materials (paper §3.3); mean from its README
        "order": (2, 1, 0),
        "scale": 255.0,
        "mean": (104.0, 117.0, 124.0),
        "std": (1.0, 1.0, 1.0),
        "feature_scale": 1 / 12.75,  # as what it was trained from
    },
}

# How the sha256 of torchvision's vgg16 and vgg19 begin, as in the names of these files.
TORCHVISION = ("397923af", "dcbb9e9d")


def convolutions(depth: int) -> dict[str, tuple[int, tuple[int, int, int, int]]]:
    """All convolutions of a VGG in order: name -> (index in torchvision's features, OIHW shape)."""
    layers = {}
    index, columns = 0, 3
    for stage, (count, rows) in enumerate(zip(STAGE_CONVOLUTIONS[depth], WIDTHS, strict=True), 1):
        for number in range(1, count + 1):
            layers[f"conv{stage}_{number}"] = (index, (rows, columns, 3, 3))
            index, columns = index + 2, rows  # a ReLU behind each convolution
        index += 1  # the pool behind each stage
    return layers


def present_layers(params: Mapping[str, Any]) -> list[str]:
    """The convolutions in the parameters, in order."""
    return [name for name in convolutions(19) if name in params]


def missing_layers(params: Mapping[str, Any], layers: Sequence[str], depth: int) -> list[str]:
    """Convolutions that `layers` need and `params`, perhaps of a truncated file, lack.

    Args:
        params: Parameters of VGGFeatures.
        layers: Names of `models.vgg.layer_names(depth)`.
        depth: 16 or 19.
    """
    names = layer_names(depth)
    last = max(names.index(layer) for layer in layers)
    return [n for n in convolutions(depth) if n in names[: last + 1] and n not in params]


def from_torch(
    tensors: Mapping[str, np.ndarray],
    preset: str = "torchvision",
    source: str = "the state_dict",
) -> tuple[int, dict[str, Any]]:
    """The depth and the parameters of a VGG with torchvision's names.

    Args:
        tensors: `features.N.weight` (OIHW) and `.bias`, with or without `features.`; the
            classifier is ignored. The upper layers may be absent.
        preset: A key of PRESETS, what the weights were trained on.
        source: Where they come from, for the messages.

    Returns:
        (16 or 19, the parameters of VGGFeatures, float32). A file that ends at or below conv3_3
        fits both and counts as VGG19.

    Raises:
        InputError: Not such a network; the message lists what is missing, left over or misshapen.
    """
    features = {
        re.sub(r"^(?=\d)", "features.", name): tensor
        for name, tensor in tensors.items()
        if not name.startswith("classifier.")
    }
    return from_layers(features, "torchvision", preset, source)


def from_layers(
    tensors: Mapping[str, np.ndarray],
    naming: str,
    preset: str,
    source: str = "the tensors",
) -> tuple[int, dict[str, Any]]:
    """The depth and the parameters of a VGG whose layers have another program's names.

    Args:
        tensors: `LAYER.weight` and `LAYER.bias` for every convolution and nothing else. The upper
            layers may be absent.
        naming: What LAYER and the axes of the kernels are: "torchvision" (features.0, OIHW),
            "Caffe" (conv1_1, OIHW) or "Keras" (block1_conv1, HWIO).
        preset: A key of PRESETS, what the weights were trained on.
        source: Where they come from, for the messages.

    Returns and raises: as `from_torch`.
    """
    candidates = []
    for depth in (19, 16):
        layers = convolutions(depth)
        names = {layer: _foreign_name(layer, index, naming) for layer, (index, _) in layers.items()}
        present = [layer for layer in layers if f"{names[layer]}.weight" in tensors]
        top = list(layers).index(present[-1]) if present else 0
        candidates.append((len(present), -top, depth, dict(list(names.items())[: top + 1])))
    # VGG16's names can all be VGG19's too: then the one with fewer layers missing is meant.
    _, _, depth, names = max(candidates, key=lambda candidate: candidate[:3])

    expected: dict[str, tuple[int, ...]] = {}
    for layer, name in names.items():
        rows, columns, *size = convolutions(depth)[layer][1]
        kernel = (*size, columns, rows) if naming == "Keras" else (rows, columns, *size)
        expected |= {f"{name}.weight": kernel, f"{name}.bias": (rows,)}
    claim = f"{source}: no VGG16 or VGG19 with {naming}'s names (VGG{depth} is the nearest)"
    weight_file.check_tensors(tensors, expected, claim)

    params: dict[str, Any] = {}
    for layer, name in names.items():
        kernel = tensors[f"{name}.weight"]
        if naming != "Keras":
            kernel = kernel.transpose(2, 3, 1, 0)
        # Copies, as a view of a mapped file may be unaligned.
        params[layer] = {
            "kernel": np.array(kernel, np.float32, order="C"),
            "bias": np.array(tensors[f"{name}.bias"], np.float32),
        }
    return depth, params | _preprocessing(preset)


def _foreign_name(layer: str, index: int, naming: str) -> str:
    stage, number = layer.removeprefix("conv").split("_")
    names = {
        "torchvision": f"features.{index}",
        "Caffe": layer,
        "Keras": f"block{stage}_conv{number}",
    }
    return names[naming]


def read_vgg(
    path: str | os.PathLike[str], preset: str | None = None
) -> tuple[int, dict[str, Any], str]:
    """A published VGG16 or VGG19: torchvision's names, a Keras .h5 or a .caffemodel.

    Args:
        path: The file. Its suffix says whose it is.
        preset: A key of PRESETS, what the weights were trained on. May be left out for Keras and
            Caffe ("caffe") and for torchvision's own files; others have torchvision's names too.

    Returns:
        (depth, parameters of VGGFeatures, preset). The upper layers may be absent;
        `present_layers` says which are there.

    Raises:
        InputError: No such file, another suffix, a damaged file or another network, or the preset
            is not known.
    """
    path = Path(os.path.expanduser(path))
    suffixes = (*weight_file.WEIGHT_SUFFIXES, *keras_file.KERAS_SUFFIXES, CAFFE_SUFFIX)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
    if suffix not in suffixes:
        raise InputError(
            f"{path}: {suffix or 'a name without suffix'} is not a weight file; "
            f"accepted are {', '.join(suffixes)}"
        )
    if suffix in weight_file.WEIGHT_SUFFIXES:
        known = preset or ("torchvision" if sha256(path).startswith(TORCHVISION) else None)
        found = from_torch(weight_file.read_tensors(path), known or "torchvision", str(path))
        if known is None:
            raise InputError(
                f"{path}: which input these weights were trained on is not known, since they have "
                "torchvision's names and are not torchvision's file: give --preset=caffe if they "
                "are Oxford's original weights, --preset=torchvision if they are torchvision's"
            )
        return *found, known
    preset = preset or "caffe"
    if suffix == CAFFE_SUFFIX:
        return *from_layers(caffe_file.read(path), "Caffe", preset, str(path)), preset
    return *from_layers(keras_file.read(path), "Keras", preset, str(path)), preset


def _preprocessing(preset: str) -> dict[str, Any]:
    if preset not in PRESETS:
        raise InputError(f"no preset {preset}; there are {', '.join(PRESETS)}")
    values = PRESETS[preset]
    dtypes = {"order": np.int32, "scale": np.float32, "mean": np.float32, "std": np.float32}
    return {
        "input": {key: np.asarray(values[key], dtype) for key, dtype in dtypes.items()},
        "feature_scale": np.asarray(values["feature_scale"], np.float32),
    }


def save_vgg(
    path: str | os.PathLike[str], params: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
    """Writes VGGFeatures' parameters as a .safetensors file that `load_vgg` reads.

    Args:
        path: Where to, ending in .safetensors.
        params: As `from_torch` gives them; stored under names such as `conv1_1/kernel`.
        metadata: For the header: `depth` ("16" or "19") is needed; whatever else tells where the
            weights come from (preset, source, sha256) is kept.

    Raises:
        InputError: Another suffix, or no such folder.
    """
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path}: converted VGG weights are kept in a .safetensors file")
    tensors: dict[str, Any] = flatten_dict(dict(params), sep="/")
    weight_file.write_tensors(path, tensors, {**metadata, "format": VGG_FORMAT})


def load_vgg(path: str | os.PathLike[str]) -> tuple[int, dict[str, Any]]:
    """(depth, the parameters of VGGFeatures) in a file of `save_vgg`.

    The upper layers may be absent; `present_layers` says which are there.

    Raises:
        InputError: No such file, or another kind of file; the message says how to make one.
    """
    tensors = weight_file.read_tensors(path)
    metadata = safetensors_file.read_metadata(path)
    if metadata.get("format") != VGG_FORMAT or metadata.get("depth") not in ("16", "19"):
        raise InputError(
            f"{path}: these are not converted VGG weights; make them with "
            f"esrgan-jax convert-vgg {path} DST.safetensors"
        )
    depth = int(metadata["depth"])
    layers = convolutions(depth)
    present = sum(f"{name}/kernel" in tensors for name in layers)
    expected: dict[str, tuple[int, ...]] = {
        "input/scale": (),
        "input/mean": (3,),
        "input/std": (3,),
        "feature_scale": (),
    }
    for name, (_, (rows, columns, *size)) in list(layers.items())[:present]:
        expected |= {f"{name}/kernel": (*size, columns, rows), f"{name}/bias": (rows,)}
    order = tensors.pop("input/order", np.zeros(0)).ravel()
    weight_file.check_tensors(tensors, expected, f"{path}: not the VGG{depth} that it says it is")
    if sorted(order.tolist()) != [0, 1, 2]:
        raise InputError(f"{path}: input/order is {order.tolist()}, no order of three channels")

    params: dict[str, Any] = {"input": {"order": order.astype(np.int32)}}
    for name in expected:
        layer, _, leaf = name.partition("/")
        array = tensors[name].astype(np.float32)
        if leaf:
            params.setdefault(layer, {})[leaf] = array
        else:
            params[layer] = array
    return depth, params
