"""VGG16 and VGG19 between torchvision's names and the parameters of VGGFeatures, and their file."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from esrgan_jax.errors import InputError
from esrgan_jax.interop import weight_file
from esrgan_jax.models.vgg import STAGES, WIDTHS, layer_names

FORMAT = "esrgan_jax.vgg/1"  # in the header of our files

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
}


def convolutions(depth: int) -> dict[str, tuple[int, tuple[int, int, int, int]]]:
    """All convolutions of a VGG in order: name -> (index in torchvision's features, OIHW shape)."""
    layers = {}
    index, columns = 0, 3
    for stage, (count, rows) in enumerate(zip(STAGES[depth], WIDTHS, strict=True), 1):
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
    kernels = (re.fullmatch(r"features\.(\d{1,4})\.weight", name) for name in features)
    found = {int(match[1]) for match in kernels if match}
    candidates = {depth: convolutions(depth) for depth in (19, 16)}
    depth = max(
        candidates, key=lambda d: len(found & {index for index, _ in candidates[d].values()})
    )
    top = max(found, default=0)
    layers = {name: layer for name, layer in candidates[depth].items() if layer[0] <= top}
    expected = {
        f"features.{index}.{kind}": shape[:axes]
        for index, shape in layers.values()
        for kind, axes in (("weight", 4), ("bias", 1))
    }
    claim = f"{source}: no VGG16 or VGG19 with torchvision's names (VGG{depth} is the nearest)"
    weight_file.check_tensors(features, expected, claim)

    params: dict[str, Any] = {}
    for name, (index, _) in layers.items():
        kernel = np.asarray(features[f"features.{index}.weight"], np.float32).transpose(2, 3, 1, 0)
        bias = np.asarray(features[f"features.{index}.bias"], np.float32)
        params[name] = {"kernel": np.ascontiguousarray(kernel), "bias": bias}
    return depth, params | _preprocessing(preset)


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
    path: str | os.PathLike, params: Mapping[str, Any], metadata: Mapping[str, str]
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
    weight_file.write_tensors(path, tensors, {**metadata, "format": FORMAT})


def load_vgg(path: str | os.PathLike) -> tuple[int, dict[str, Any]]:
    """(depth, the parameters of VGGFeatures) in a file of `save_vgg`.

    The upper layers may be absent; `present_layers` says which are there.

    Raises:
        InputError: No such file, or another kind of file; the message says how to make one.
    """
    tensors = weight_file.read_tensors(path)
    metadata = weight_file.read_metadata(path)
    if metadata.get("format") != FORMAT or metadata.get("depth") not in ("16", "19"):
        raise InputError(
            f"{path}: these are not converted VGG weights; make them with "
            f"python tools/convert_vgg.py {path} DST.safetensors"
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
    order = tensors.pop("input/order", np.zeros(0))
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
