"""Converts VGG-style discriminators between BasicSR's state_dict and Discriminator's variables."""

import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from esrgan_jax.errors import InputError, listed
from esrgan_jax.interop.weight_file import check_tensors

# Torch's name, (collection, layer, leaf) and torch's shape of a tensor.
Row = tuple[str, tuple[str, str, str], tuple[int, ...]]
CONV_LAYERS = tuple(f"{pair}_{index}" for pair in range(5) for index in (0, 1))
# Torch's name -> (collection, leaf) of batch normalisation.
NORMALISATION = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def from_torch(
    tensors: Mapping[str, np.ndarray], source: str = "the state_dict"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the architecture and the variables of a discriminator with BasicSR's names.

    Args:
        tensors: `conv0_0.weight` … `linear2.bias`, kernels OIHW, as BasicSR's
            VGGStyleDiscriminator and the 2019 code's Discriminator_VGG_128 have them.
        source: Where they come from, for the messages.

    Returns:
        fields: name ("vgg"), in_channels, num_features, use_bias and hr_patch (pixels, a multiple
            of 32).
        variables: {"params", "batch_stats"} of `Discriminator`, float32.

    Raises:
        InputError: Another network, or tensors that are missing, left over or misshapen.

    Running variances are copied as they are: torch's are unbiased and Flax's biased, which only
    inference with running averages would notice, and training has none.
    """
    if "features.0.weight" in tensors:
        raise InputError(f"{source}: a VGG or the 2018 code's discriminator, not BasicSR's")
    first = np.shape(tensors.get("conv0_0.weight", 0))
    dense = np.shape(tensors.get("linear1.weight", 0))
    if len(first) != 4 or len(dense) != 2 or 0 in first + dense:
        raise InputError(
            f"{source}: no discriminator: conv0_0.weight and linear1.weight are needed, "
            f"there are {listed(list(tensors))}"
        )
    found = _fields(first[1], first[0], "conv0_1.bias" in tensors, dense[1])
    tensors = {n: t for n, t in tensors.items() if not n.endswith(".num_batches_tracked")}
    expected = {name: shape for name, _, shape in _tensors(found)}
    check_tensors(tensors, expected, f"{source}: nearly BasicSR's discriminator")

    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, (collection, layer, leaf), _ in _tensors(found):
        array = _to_flax(np.asarray(tensors[name], np.float32), name, found)
        variables[collection].setdefault(layer, {})[leaf] = np.ascontiguousarray(array)
    return found, variables


def to_torch(fields: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns BasicSR's state_dict of a discriminator's variables, the inverse of `from_torch`.

    Counters (`num_batches_tracked`), which strict loading wants and nothing reads, are 0.

    Raises:
        InputError: The variables are not those of a discriminator with these fields.
    """
    tensors = {}
    rows, convert = _tensors(fields), functools.partial(_to_torch, fields=fields)
    for name, array in torch_tensors(variables, rows, convert):
        tensors[name] = array
        if name.endswith(".running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            tensors[counter] = np.zeros((), np.int64)
    return tensors


def torch_tensors(
    variables: Mapping[str, Any],
    rows: Iterable[Row],
    convert: Callable[[np.ndarray, str], np.ndarray],
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields torch's names and arrays of a discriminator's variables.

    Args:
        variables: {"params", "batch_stats"} of any discriminator.
        rows: Its tensors.
        convert: Returns an array in torch's layout, by torch's name of it.

    Raises:
        InputError: An array is missing or misshapen.
    """
    for name, (collection, layer, leaf), shape in rows:
        array = variables.get(collection, {}).get(layer, {}).get(leaf)
        if array is None:
            raise InputError(f"{layer}/{leaf} is missing in the {collection} of the discriminator")
        array = convert(np.asarray(array), name)
        if array.shape != shape:
            raise InputError(f"{layer}/{leaf}: {array.shape} where {shape} is needed")
        yield name, np.ascontiguousarray(array)


def fields(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns name, in_channels, num_features, use_bias and hr_patch of a network's variables."""
    params = variables["params"]
    *_, in_channels, num_features = np.shape(params["conv0_0"]["kernel"])
    flat = np.shape(params["linear1"]["kernel"])[0]
    return _fields(in_channels, num_features, "bias" in params["conv0_1"], flat)


def _fields(in_channels: int, num_features: int, use_bias: bool, flat: int) -> dict[str, Any]:
    hr_patch = 32 * math.isqrt(flat // (8 * num_features))
    return {
        "name": "vgg",
        "in_channels": in_channels,
        "num_features": num_features,
        "use_bias": use_bias,
        "hr_patch": hr_patch,
    }


def _tensors(fields: Mapping[str, Any]) -> Iterator[Row]:
    """Yields the tensors in torch's order."""
    nf, columns = fields["num_features"], fields["in_channels"]
    for layer in CONV_LAYERS:
        pair, index = int(layer[0]), int(layer[2])
        rows, size = nf * min(2**pair, 8), 3 + index
        conv = f"conv{layer}"
        yield f"{conv}.weight", ("params", conv, "kernel"), (rows, columns, size, size)
        if fields["use_bias"] or layer == "0_0":
            yield f"{conv}.bias", ("params", conv, "bias"), (rows,)
        if layer != "0_0":
            for name, (collection, leaf) in NORMALISATION.items():
                yield f"bn{layer}.{name}", (collection, f"bn{layer}", leaf), (rows,)
        columns = rows
    flat = columns * (fields["hr_patch"] // 32) ** 2
    for layer, shape in (("linear1", (100, flat)), ("linear2", (1, 100))):
        yield f"{layer}.weight", ("params", layer, "kernel"), shape
        yield f"{layer}.bias", ("params", layer, "bias"), shape[:1]


def _to_flax(array: np.ndarray, name: str, fields: Mapping[str, Any]) -> np.ndarray:
    if re.fullmatch(r"conv.*\.weight", name):
        return array.transpose(2, 3, 1, 0)
    if name == "linear1.weight":  # torch flattens (C, H, W), we (H, W, C)
        side = fields["hr_patch"] // 32
        array = array.reshape(len(array), -1, side, side).transpose(0, 2, 3, 1)
        return array.reshape(len(array), -1).T
    return array.T


def _to_torch(array: np.ndarray, name: str, fields: Mapping[str, Any]) -> np.ndarray:
    if re.fullmatch(r"conv.*\.weight", name):
        return array.transpose(3, 2, 0, 1)
    if name == "linear1.weight":
        side = fields["hr_patch"] // 32
        array = array.T.reshape(array.shape[1], side, side, -1).transpose(0, 3, 1, 2)
        return array.reshape(len(array), -1)
    return array.T
