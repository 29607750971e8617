"""Converts U-Net discriminators between BasicSR's state_dict and UNetDiscriminator's variables."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from esrgan_jax.errors import InputError, listed
from esrgan_jax.interop.discriminator_names import Row, torch_tensors
from esrgan_jax.interop.weight_file import check_tensors

MULTIPLES = (1, 2, 4, 8, 4, 2, 1, 1, 1)  # channels of conv0 to conv8 over num_features


def from_torch(
    tensors: Mapping[str, np.ndarray], source: str = "the state_dict"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the architecture and the variables of a U-Net discriminator with BasicSR's names.

    Args:
        tensors: `conv0.weight`, `conv0.bias`, `conv1.weight_orig`, `conv1.weight_u`,
            `conv1.weight_v` … `conv9.bias`, kernels OIHW, as UNetDiscriminatorSN has them.
        source: Where they come from, for the messages.

    Returns:
        fields: name ("unet"), in_channels and num_features.
        variables: {"params", "batch_stats"} of `UNetDiscriminator`, float32.

    Raises:
        InputError: Another network, or tensors that are missing, left over or misshapen.
    """
    first = np.shape(tensors.get("conv0.weight", 0))
    if len(first) != 4 or 0 in first:
        raise InputError(
            f"{source}: no U-Net discriminator: conv0.weight is needed, there are "
            f"{listed(list(tensors))}"
        )
    found = _fields(first[1], first[0])
    expected = {name: shape for name, _, shape in _tensors(found)}
    check_tensors(tensors, expected, f"{source}: nearly BasicSR's U-Net discriminator")
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, (collection, layer, leaf), _ in _tensors(found):
        array = np.asarray(tensors[name], np.float32)
        if leaf == "v":  # torch flattens (inputs, size, size)
            side = _size(layer)
            array = array.reshape(-1, side, side).transpose(1, 2, 0)
        elif leaf == "kernel":
            array = array.transpose(2, 3, 1, 0)
        variables[collection].setdefault(layer, {})[leaf] = np.ascontiguousarray(array)
    return found, variables


def to_torch(fields: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns BasicSR's state_dict of a U-Net's variables, the inverse of `from_torch`.

    Raises:
        InputError: The variables are not those of a discriminator with these fields.
    """
    return dict(torch_tensors(variables, _tensors(fields), _to_torch))


def fields(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns name, in_channels and num_features of a U-Net's variables."""
    *_, in_channels, num_features = np.shape(variables["params"]["conv0"]["kernel"])
    return _fields(in_channels, num_features)


def _fields(in_channels: int, num_features: int) -> dict[str, Any]:
    return {"name": "unet", "in_channels": in_channels, "num_features": num_features}


def _to_torch(array: np.ndarray, name: str) -> np.ndarray:
    if name.endswith("_v"):
        return array.transpose(2, 0, 1).reshape(-1)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array


def _tensors(fields: Mapping[str, Any]) -> Iterator[Row]:
    """Yields the tensors in torch's order."""
    columns = fields["in_channels"]
    rows = [fields["num_features"] * multiple for multiple in MULTIPLES] + [1]
    for index, features in enumerate(rows):
        layer = f"conv{index}"
        kernel = (features, columns, _size(layer), _size(layer))
        if index in (0, 9):
            yield f"{layer}.weight", ("params", layer, "kernel"), kernel
            yield f"{layer}.bias", ("params", layer, "bias"), (features,)
        else:
            yield f"{layer}.weight_orig", ("params", layer, "kernel"), kernel
            yield f"{layer}.weight_u", ("batch_stats", layer, "u"), (features,)
            yield f"{layer}.weight_v", ("batch_stats", layer, "v"), (columns * _size(layer) ** 2,)
        columns = features


def _size(layer: str) -> int:
    return 4 if layer in ("conv1", "conv2", "conv3") else 3
