"""Network interpolation (arXiv 1809.00219, §3.4): weighted means of parameters."""

import functools
import hashlib
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from esrgan_jax import bucket, checkpoint
from esrgan_jax.errors import InputError, listed
from esrgan_jax.files import sha256
from esrgan_jax.interop.zoo import resolve
from esrgan_jax.models.generator import Generator, Params, Variables

Tree = TypeVar("Tree")  # a pytree of arrays


def interpolate_params(psnr: Tree, gan: Tree, alpha: float) -> Tree:
    """Returns (1 - alpha) · psnr + alpha · gan for every leaf (§3.4, equation 4).

    Only a GAN generator that was trained from that PSNR generator gives a sensible blend.

    Args:
        psnr: Parameters of the PSNR-oriented generator, any pytree of arrays.
        gan: Parameters of the GAN generator, the same tree with the same shapes.
        alpha: Any finite number: 0 is exactly `psnr`, 1 exactly `gan`, beyond is extrapolation.

    Raises:
        InputError: alpha is not finite, the trees differ (the first differences are named), or
            leaves that would be blended are not floating-point numbers.
    """
    return blend_params([psnr, gan], [1 - alpha, alpha])


def blend_params(trees: Sequence[Tree], weights: Sequence[float]) -> Tree:
    """Returns Σ weight · tree of pytrees of one structure; raises as `interpolate_params`.

    Trees of weight 0 are ignored. A single remaining tree of weight 1 is returned unchanged.
    """
    if len(trees) != len(weights) or not trees:
        raise InputError(
            f"{len(trees)} networks and {len(weights)} weights: give one weight for each network"
        )
    if not all(math.isfinite(weight) for weight in weights):
        raise InputError(f"weights must be finite numbers, got {list(weights)}")
    for tree in trees[1:]:
        check_same_shapes(trees[0], tree)

    # 0 · inf would be NaN, and a sum with 0 turns -0.0 into 0.0.
    parts = [(weight, tree) for weight, tree in zip(weights, trees, strict=True) if weight]
    if not parts:
        raise InputError("all weights are 0: give one network another weight")
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]

    def blend(*leaves: Any) -> Any:
        dtype = leaves[0].dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(f"a leaf of {dtype} cannot be interpolated, only floating-point ones")
        terms = (weight * leaf for (weight, _), leaf in zip(parts, leaves, strict=True))
        return functools.reduce(operator.add, terms).astype(dtype)  # NumPy widens, JAX does not

    return jax.tree.map(blend, *(tree for _, tree in parts))


def check_same_shapes(first: Params, second: Params) -> None:
    """Raises InputError with the leaves (path and shape) in which two trees differ."""
    a, b = _shapes(first), _shapes(second)
    differences = [
        f"{path}: {a.get(path, 'absent')} and {b.get(path, 'absent')}"
        for path in sorted(a.keys() | b.keys())
        if a.get(path) != b.get(path)
    ]
    if differences:
        raise InputError(f"the networks are not of one architecture: {listed(differences)}")
    structures = [jax.tree.structure(tree) for tree in (first, second)]
    if structures[0] != structures[1]:
        raise InputError(
            f"the networks have the same leaves in different containers, {structures[0]} and "
            f"{structures[1]}; bring both into one form"
        )


def _shapes(tree: Params) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def load_blend(
    psnr_model: str | Path, gan_model: str | Path, alpha: float
) -> tuple[Generator, Variables]:
    """Returns (module, variables) of (1 - alpha) · psnr_model + alpha · gan_model."""
    return load_models([(psnr_model, 1 - alpha), (gan_model, alpha)])[:2]


class Loaded(NamedTuple):
    """A generator with its variables, and its name as `describe_model` returns it."""

    module: Generator
    variables: Variables
    name: str


def load_model(model: str | Path) -> Loaded:
    """Loads what `load_generator` takes, with its name."""
    module, variables = checkpoint.load_generator(model)
    return Loaded(module, variables, describe_model(model, variables))


def load_models(weighted: Sequence[tuple[str | Path, float]]) -> Loaded:
    """Returns Σ weight · model.

    Args:
        weighted: (model, weight) pairs; a model is what `load_generator` takes.

    Raises:
        InputError: as `load_generator` and `blend_models`; or a network is given twice.
    """
    loaded = [load_model(model) for model, _ in weighted]
    places: dict[Path, str | Path] = {}
    for model, _ in weighted:
        if same := places.get(_place(model)):
            raise InputError(
                f"{same} and {model} are the same network; "
                "for the two stages of a run give WORKDIR/psnr and WORKDIR/gan"
            )
        places[_place(model)] = model
    return blend_models([str(model) for model, _ in weighted], loaded, [w for _, w in weighted])


def blend_models(
    models: Sequence[str], loaded: Sequence[Loaded], weights: Sequence[float]
) -> Loaded:
    """Returns Σ weight · model of loaded models, named after those whose weight is not 0.

    Args:
        models: What messages call them.
        loaded: The models.
        weights: One for each.

    Raises:
        InputError: as `blend_params`; or the architectures differ.
    """
    first, module = models[0], loaded[0].module
    for model, (other, _, _) in zip(models[1:], loaded[1:], strict=True):
        if architecture(other) != architecture(module):
            raise InputError(
                f"{first} is {architecture(module)} and {model} is {architecture(other)}; "
                "only networks of one architecture can be interpolated"
            )
        if differs := _differences(module, other):
            raise InputError(
                f"{first} and {model} are not of one architecture, and cannot be "
                f"interpolated: {differs}"
            )
    try:
        variables = blend_params([model.variables for model in loaded], weights)
    except InputError as error:
        raise InputError(f"{' and '.join(models)}: {error}") from None
    terms = [
        model.name + ("" if weight == 1 else f" x {weight:g}")
        for model, weight in zip(loaded, weights, strict=True)
        if weight
    ]
    return Loaded(loaded[-1].module, variables, " + ".join(terms))


def describe_model(model: str | Path, variables: Variables) -> str:
    """Returns a model's file name and the SHA-256 of its file, or of a folder's parameters.

    Such as "RRDB_ESRGAN_x4.npz sha256:0123456789abcdef", the first 16 digits.
    """
    path = Path(model) if bucket.is_bucket(model) else resolve(model)
    if path.is_file():
        return f"{path.name} sha256:{sha256(path)[:16]}"
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"{path.name} parameters sha256:{digest.hexdigest()[:16]}"


def _place(model: str | Path) -> Path:
    """Returns the path of a model's checkpoint or file, links resolved."""
    # Path resolves links, which epath.Path does not.
    path = epath.Path(model).expanduser()
    return Path(checkpoint.find_checkpoint(path) or path).resolve()


def _differences(first: Generator, second: Generator) -> str:
    """Describes the fields in which two modules of one class differ; "" if none."""
    fields = {k: v for k, v in vars(first).items() if isinstance(v, int | str) and k != "name"}
    return ", ".join(
        f"{name} is {value} and {other}"
        for name, value in fields.items()
        if (other := getattr(second, name)) != value
    )


def architecture(module: Generator) -> str:
    """Describes a network's class, scale and unshuffling, which shapes alone do not always tell."""
    multiple = module.size_multiple
    folded = f" on multiples of {multiple} px" if multiple > 1 else ""
    return f"a x{module.scale} {type(module).__name__}{folded}"
