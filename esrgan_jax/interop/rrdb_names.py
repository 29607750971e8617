"""Converts RRDB generators between PyTorch's state_dicts and RRDBNet's parameters."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict

from esrgan_jax.errors import InputError, listed
from esrgan_jax.interop.look_alikes import find_look_alike
from esrgan_jax.interop.namings import NAMINGS
from esrgan_jax.interop.rrdb_dialects import DIALECTS, find_dialect, in_basicsr, without_prefix
from esrgan_jax.interop.weight_file import check_tensors
from esrgan_jax.models.rrdb import RRDB_SCALES, UNSHUFFLES, RRDBNet


class _Layer(NamedTuple):
    """One convolution: its torch name, its place in the parameters, its kernel (O, I, H, W)."""

    name: str
    path: tuple[str, ...]
    block: int | None
    shape: tuple[int, int, int, int]

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Torch's name -> (leaf, shape) of the tensors; ESRGAN+'s 1x1 has no bias."""
        named: dict[str, tuple[str, tuple[int, ...]]] = {
            f"{self.name}.weight": ("kernel", self.shape)
        }
        if self.path[-1] != "conv1x1":
            named[f"{self.name}.bias"] = ("bias", self.shape[:1])
        return named


def _layers(fields: Mapping[str, Any], naming: str) -> Iterator[_Layer]:
    """Yields all convolutions in the natural order of their names, from input to output."""
    names, nb, nf = NAMINGS[naming], fields["num_blocks"], fields["num_features"]
    gc, out = fields["num_growth"], fields["out_channels"]
    factors = RRDBNet(scale=fields["scale"], unshuffle=fields["unshuffle"]).up_factors
    ups, shuffles = len(factors), fields["upsampler"] == "pixelshuffle"

    def edge(kind: str, path: str, rows: int, columns: int, u: int = 0) -> _Layer:
        # Of the layers of a step, nearest x2 comes before its convolution, pixelshuffle behind.
        numbers = {"u": u, "u3": 3 * u - shuffles, "hr": 3 * ups + 2, "last": 3 * ups + 4, "nb": nb}
        return _Layer(names[kind].format(**numbers), (path,), None, (rows, columns, 3, 3))

    yield edge("first", "conv_first", nf, fields["in_channels"] * fields["unshuffle"] ** 2)
    for k in range(nb):
        for r in (1, 2, 3):
            for c in (1, 2, 3, 4, 5):
                shape = (gc if c < 5 else nf, nf + (c - 1) * gc, 3, 3)
                name = names["block"].format(k=k, r=r, c=c)
                yield _Layer(name, ("body", f"rdb{r}", f"conv{c}"), k, shape)
            if fields["plus"]:
                name = names["plus"].format(k=k, r=r)
                yield _Layer(name, ("body", f"rdb{r}", "conv1x1"), k, (gc, nf, 1, 1))
    yield edge("body", "conv_body", nf, nf)
    for u, factor in enumerate(factors, 1):
        yield edge("up", f"conv_up{u}", nf * factor**2 if shuffles else nf, nf, u)
    yield edge("hr", "conv_hr", nf, nf)
    yield edge("last", "conv_last", out, nf)


def from_torch(
    tensors: Mapping[str, np.ndarray],
    source: str = "the state_dict",
    scale: int = 0,
    unshuffle: int = 0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the architecture and the parameters of an RRDB generator in any naming.

    Args:
        tensors: Unwrapped, by torch's names, kernels OIHW, of any floating-point type.
        source: The origin of the tensors, for messages.
        scale: 3 for a network with one upsampling step that upscales three times, since its tensors
            look exactly like those of a x2 network. Otherwise the tensors determine the scale.
        unshuffle: The factor by which the input is unshuffled, 1 for none. By default it is s if
            there are s² times as many input as output channels, as other programs assume; names
            and shapes do not tell.

    Returns:
        fields: num_features, num_growth, num_blocks, in_channels and out_channels (of images),
            scale (SR over LR), unshuffle, plus and upsampler: the arguments of `RRDBNet`.
        params: Its parameters, float32, kernels HWIO, blocks stacked along a leading axis. Torch's
            order of unshuffled channels (c·s² + dy·s + dx) is RRDBNet's too.

    Raises:
        InputError: Another network (named if it is known), or tensors that are missing, left over
            or of the wrong shape or type. In the two newer namings, tensors that clearly do not
            belong to the network are ignored with a warning.
    """
    tensors = without_prefix(tensors, source)
    naming = find_naming(tensors, source)
    ignores_foreign = naming in ("basicsr", "bsrgan")
    if naming in DIALECTS:
        tensors, naming = in_basicsr(tensors, DIALECTS[naming]), "basicsr"
    tensors = _in_one_naming(tensors, naming)
    fields = _fields(tensors, naming, source, scale, unshuffle)
    layers = list(_layers(fields, naming))
    expected = {name: shape for layer in layers for name, (_, shape) in layer.tensors().items()}
    if ignores_foreign and expected.keys() <= tensors.keys():
        own = {form.partition(".")[0].removesuffix("{u}") for form in NAMINGS[naming].values()}
        roots = {name: name.partition(".")[0].rstrip("0123456789") for name in tensors}
        foreign = [name for name, root in roots.items() if root not in own]
        if foreign:
            logging.warning("%s: no part of an RRDB network, ignored: %s", source, listed(foreign))
            tensors = {name: tensors[name] for name in tensors if name not in foreign}
    check_tensors(tensors, expected, f"{source}: nearly an RRDB network")

    params: dict[str, Any] = {}
    for layer in layers:
        for name, (leaf, _) in layer.tensors().items():
            tensor = np.asarray(tensors[name], np.float32)
            tensor = tensor.transpose(2, 3, 1, 0) if leaf == "kernel" else tensor
            node = params
            for key in layer.path:
                node = node.setdefault(key, {})
            if layer.block is None:
                node[leaf] = np.ascontiguousarray(tensor)
            else:
                stacked = node.setdefault(
                    leaf, np.empty((fields["num_blocks"], *tensor.shape), np.float32)
                )
                stacked[layer.block] = tensor
    return fields, params


def to_torch(
    fields: Mapping[str, Any], params: Mapping[str, Any], naming: str = "basicsr"
) -> dict[str, np.ndarray]:
    """Returns the state_dict of RRDBNet's parameters, the inverse of `from_torch`.

    Names are in natural order, from input to output (some programs read the number of channels
    from the first and the last); kernels are OIHW, and each block has tensors of its own.

    Raises:
        InputError: The parameters are not those of a network with these fields.
    """
    leaves = flatten_dict(dict(params), sep="/")
    arrays = {where: np.asarray(leaf) for where, leaf in leaves.items()}
    tensors = {}
    for layer in _layers(fields, naming):
        for name, (leaf, shape) in layer.tensors().items():
            where = "/".join((*layer.path, leaf))
            needed = (shape[2], shape[3], shape[1], shape[0]) if leaf == "kernel" else shape
            if layer.block is not None:
                needed = (fields["num_blocks"], *needed)
            if where not in arrays or arrays[where].shape != needed:
                found = arrays[where].shape if where in arrays else "nothing"
                raise InputError(f"{where} of the parameters: {found} where {needed} is needed")
            array = arrays[where] if layer.block is None else arrays[where][layer.block]
            array = array.transpose(3, 2, 0, 1) if leaf == "kernel" else array
            tensors[name] = np.ascontiguousarray(array)
    return tensors


def reader_notes(fields: Mapping[str, Any], naming: str) -> list[str]:
    """Returns notes on what other programs cannot read in such a file; [] if nothing.

    The rules are those of spandrel, which ComfyUI, chaiNNer and most other programs use.
    """
    columns = fields["in_channels"] * fields["unshuffle"] ** 2
    taken = next((s for s in (2, 4) if columns == s * s * fields["out_channels"]), 1)
    takes = f"unshuffles by {taken}" if taken > 1 else f"has {columns} input channels"
    notes = {
        f"they expect 32 growth channels, not {fields['num_growth']}": fields["num_growth"] != 32,
        f"they drop ESRGAN+'s 1x1 convolutions under {naming} names: use the old naming": (
            fields["plus"] and naming != "old"
        ),
        "they take x3 for x2": fields["scale"] == 3,
        "they know no pixelshuffle": fields["upsampler"] != "upconv",
        f"they take it for a network that {takes}": taken != fields["unshuffle"],
    }
    return [note for note, applies in notes.items() if applies]


def says_x3(path: str | os.PathLike[str]) -> bool:
    """Returns whether a file name contains 3x, as in 3x_Name.pth.

    The tensors of x3 and x2 networks have equal names and shapes.
    """
    return re.search(r"(^|[^0-9a-z])3x", Path(path).stem.lower()) is not None


def check_name(path: str | os.PathLike[str], scale: int) -> None:
    """Raises InputError if a weight file of that name would be read with another scale."""
    name = Path(path).name
    if Path(path).suffix and scale == 3 and not says_x3(path):
        raise InputError(
            f"{path}: only the name of a weight file can show that it upscales three times: "
            f"begin it with 3x, as 3x_{name}"
        )
    if Path(path).suffix and scale == 2 and says_x3(path):
        raise InputError(f"{path}: its name says 3x, but the network upscales twice: rename it")


def find_naming(tensors: Mapping[str, np.ndarray], source: str = "the state_dict") -> str:
    """Returns the key of NAMINGS or `rrdb_dialects.DIALECTS` that the tensor names follow.

    Raises:
        InputError: Another network (named if it is known).
    """
    tensors = without_prefix(tensors, source)
    if network := find_look_alike(tensors):
        raise InputError(f"{source}: holds {network}, not an RRDB network of the ESRGAN family")
    for naming, names in NAMINGS.items():
        if names["block"].format(k=0, r=1, c=1) + ".weight" in tensors:
            return naming
    if dialect := find_dialect(tensors):
        return dialect
    known = ", ".join(names["block"].format(k=0, r=1, c=1) for names in NAMINGS.values())
    raise InputError(
        f"{source}: no RRDB network: none of {known} is there, but {listed(list(tensors))}"
    )


def _in_one_naming(tensors: Mapping[str, np.ndarray], naming: str) -> dict[str, np.ndarray]:
    """Returns the tensors in one naming, also if a file contains both newer namings."""
    if naming == "old":
        return dict(tensors)
    own, other = NAMINGS[naming], NAMINGS["bsrgan" if naming == "basicsr" else "basicsr"]
    renamed = {}
    for name, tensor in tensors.items():
        layer, dot, leaf = name.rpartition(".")
        for kind in ("body", "up", "hr"):
            if match := re.fullmatch(other[kind].replace("{u}", r"(?P<u>\d+)"), layer):
                layer = own[kind].format(**match.groupdict())
        renamed[f"{layer}{dot}{leaf}"] = tensor
    return renamed if len(renamed) == len(tensors) else dict(tensors)


def _fields(
    tensors: Mapping[str, np.ndarray], naming: str, source: str, scale: int, unshuffle: int
) -> dict[str, Any]:
    names = NAMINGS[naming]

    def kernel_shape(layer: str) -> tuple[int, ...]:
        shape = np.shape(tensors.get(f"{layer}.weight", 0))
        if len(shape) != 4 or 0 in shape:
            raise InputError(f"{source}: {layer}.weight is missing or no kernel of a convolution")
        return shape

    def indices(pattern: str) -> set[str]:
        found = (re.fullmatch(pattern + r"\.weight", name) for name in tensors)
        return {match[1] for match in found if match}

    num_features, columns, *size = kernel_shape(names["first"].format())
    if size == [2, 2]:
        raise InputError(f"{source}: holds 2C2-ESRGAN (2x2 kernels), which RRDBNet is not")
    block = re.escape(names["block"]).replace(r"\{k\}", r"(\d+)")
    num_blocks = len(indices(block.replace(r"\{r\}", "1").replace(r"\{c\}", "1")))
    if naming == "old":
        steps = max(0, len(indices(r"model\.(\d+)")) - 3)  # less the first, hr and last
    else:
        steps = len(indices(names["up"].replace("{u}", r"(\d+)")))
    # Pixelshuffle's convolution, "model.2" in the oldest names, has factor² times the rows.
    first_up = "model.2" if naming == "old" else names["up"].format(u=1)
    rows = np.shape(tensors.get(f"{first_up}.weight", 0))[:1]
    factor = {(4 * num_features,): 2, (9 * num_features,): 3}.get(rows)
    upsampler = "pixelshuffle" if steps and factor else "upconv"
    triples = steps == 1 and (factor == 3 if factor else scale == 3)
    out_channels = kernel_shape(names["last"].format(last=3 * steps + 4))[0]
    if not unshuffle:
        folds = (s for s in UNSHUFFLES[1:] if columns == s * s * out_channels and 2**steps >= s)
        unshuffle = 1 if triples else next(folds, 1)
    if columns % unshuffle**2 or 2**steps < unshuffle or (triples and unshuffle > 1):
        raise InputError(
            f"{source}: a network of {columns} inputs and {steps} upsampling steps "
            f"does not unshuffle by {unshuffle}"
        )
    if 2**steps > RRDB_SCALES[-1] * unshuffle:
        raise InputError(
            f"{source}: enlarges 2^{steps} times; RRDBNet up to {RRDB_SCALES[-1]} times"
        )
    return {
        "num_features": num_features,
        "num_growth": kernel_shape(names["block"].format(k=0, r=1, c=1))[0],
        "num_blocks": num_blocks,
        "in_channels": columns // unshuffle**2,
        "out_channels": out_channels,
        "scale": 3 if triples else 2**steps // unshuffle,
        "unshuffle": unshuffle,
        "plus": any(".conv1x1." in name for name in tensors),
        "upsampler": upsampler,
    }
