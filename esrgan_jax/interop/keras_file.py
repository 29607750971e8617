"""Convolutions in the HDF5 files of Keras 1, 2 and 3 (.h5), read without Keras."""

import mmap
import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from esrgan_jax.errors import InputError, listed, missing
from esrgan_jax.interop.mapped_file import map_file
from esrgan_jax.interop.weight_file import DAMAGE_ERRORS

if TYPE_CHECKING:
    import h5py

KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
# What Keras 1, 2 and 3 call the tensors of a convolution.
KERAS_LEAVES = {
    **{"W": "weight", "kernel": "weight", "vars/0": "weight"},
    **{"b": "bias", "bias": "bias", "vars/1": "bias"},
}
# VGG19 with its classifier and optimizer has some hundred objects, four deep, with short names.
MAX_OBJECTS, MAX_DEPTH, MAX_NAME = 10_000, 16, 200
THEANO = (
    "has kernels in Theano's form; take the file whose name ends in "
    "tf_dim_ordering_tf_kernels.h5 or tf_dim_ordering_tf_kernels_notop.h5"
)


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads layers `blockN_convM` of a Keras file: `blockN_convM.weight` (HWIO) and `.bias` (O,).

    Other layers are skipped. Weights, whole models and nested models are read, of any version of
    Keras that names the layers. HDF5 only gives the position of the tensors. They are read-only
    views of the mapped file, so HDF5's links, sources and filters cannot read other files or claim
    more than the file's size. Theano kernels are detected, except in a renamed
    tf_dim_ordering_th_kernels.h5.

    Raises:
        InputError: The file does not exist, is not HDF5, is damaged, has Theano's kernels or no
            such layers, or h5py is not installed.
    """
    path = Path(path)
    try:
        import h5py
    except ImportError as error:
        raise missing(f"{path}: Keras' files", "h5py", "h5py") from error
    if re.search("th_dim_ordering|th_kernels", path.name):
        raise InputError(f"{path}: {THEANO}")
    try:
        data = map_file(path)
        if data[:4] == b"PK\x03\x04":
            raise InputError(
                f"{path}: is an archive of Keras 3; give the file model.weights.h5 in it "
                f"(unzip {path.name} model.weights.h5)"
            )
        with h5py.File(path, "r", locking=False) as file:
            return _tensors(file, data, path)
    except InputError:
        raise
    except DAMAGE_ERRORS as error:
        raise InputError(
            f"{path}: cannot be read as a Keras file (HDF5): {error!s:.300}. "
            "Download it again, or save it by Keras"
        ) from error


def _tensors(file: "h5py.File", data: mmap.mmap, path: Path) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    others: dict[str, None] = {}
    for place, dataset in _datasets(file):
        name = _tensor_name(place)
        if not name:
            others[place.rpartition("/")[0] or place] = None
            continue
        if name in tensors:
            raise ValueError(f"{name} is there twice, the second time as {place}")
        tensors[name] = _view(dataset, data, place)
    if not tensors:
        advice = "give a VGG16 or VGG19"
        if any(place.endswith("layers/conv2d/vars") for place in others):
            advice = "some files of Keras 3 do not name their layers; save the model as .h5"
        raise InputError(
            f"{path}: has no layers block1_conv1, block1_conv2, …, but "
            f"{listed(list(others)) or 'none at all'}; {advice}"
        )
    if sum(tensor.nbytes for tensor in tensors.values()) > len(data):
        raise ValueError("its tensors share the same bytes")
    # Theano's kernels have other axes or are flipped, which only the backend's name shows.
    # Attributes are not read, since HDF5 can loop forever in damaged heaps of their texts.
    roots: tuple[Any, ...] = (file, file.get("model_weights", file))
    named = any("backend" in root.attrs for root in roots)
    if (named and data.find(b"theano") >= 0) or any(
        tensor.ndim == 4 and tensor.shape[:2] != (3, 3) == tensor.shape[2:]
        for tensor in tensors.values()
    ):
        raise InputError(f"{path}: {THEANO}")
    return tensors


def _datasets(file: "h5py.File") -> Iterator[tuple[str, "h5py.Dataset"]]:
    """Yields (path, dataset) of all datasets, each once, except the optimizer's.

    ValueError for links other than hard links: Keras writes none, and they may lead anywhere.
    """
    import h5py
    from h5py import h5o  # pyright: ignore[reportAttributeAccessIssue]

    groups: deque[tuple[str, Any]] = deque([("", file)])
    seen = set()
    while groups:
        place, group = groups.popleft()
        if len(group) + len(seen) > MAX_OBJECTS or place.count("/") > MAX_DEPTH:
            raise ValueError("it has far more in it than a VGG")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink) or len(name) > MAX_NAME:
                raise ValueError(f"{place}{name:.{MAX_NAME}} is a link to elsewhere")
            item = group[name]
            address = h5o.get_info(item.id).addr
            if address in seen or (not place and name.startswith("optimizer")):
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append((f"{place}{name}/", item))
            elif isinstance(item, h5py.Dataset):
                yield place + name, item


def _tensor_name(place: str) -> str:
    """Returns a name such as `block1_conv1.weight`, or "" outside such layers.

    Keras writes it as block1_conv1/block1_conv1_W_1:0 (Keras 1), block1_conv1/block1_conv1/kernel:0
    (Keras 2) and layers/block1_conv1/vars/0 (Keras 3), with any groups before them.
    """
    *groups, leaf = place.split("/")
    layer = next((group for group in groups if re.fullmatch("block[0-9]_conv[0-9]", group)), "")
    if groups[-1:] == ["vars"]:
        leaf = f"vars/{leaf}"
    leaf = re.sub(r"(_[0-9]+)?(:0)?$", "", leaf.removeprefix(f"{layer}_"))
    return layer and f"{layer}.{KERAS_LEAVES.get(leaf, leaf)}"


def _view(dataset: "h5py.Dataset", data: mmap.mmap, place: str) -> np.ndarray:
    """Returns the dataset as a view of the mapped file."""
    import h5py

    plan = dataset.id.get_create_plist()
    # Checked before the shape, which in a virtual dataset can depend on other files.
    offset = dataset.id.get_offset() if plan.get_layout() == h5py.h5d.CONTIGUOUS else None
    if offset is None or plan.get_external_count():
        raise ValueError(
            f"{place} is not in the file in one piece, as Keras writes it, but chunked, "
            "compressed, elsewhere or not at all"
        )
    dtype = dataset.dtype
    if dtype.kind != "f" or not h5py.h5t.py_create(dtype).equal(dataset.id.get_type()):
        raise ValueError(f"{place} has elements of {dtype!s:.80}, not floating-point numbers")
    return np.ndarray(dataset.shape, dtype, data, offset)
