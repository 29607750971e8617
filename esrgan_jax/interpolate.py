"""Network interpolation (arXiv 1809.00219, §3.4): fidelity and texture, mixed in the parameters.

As a command it mixes two generators, or with --images two pictures for the comparison of §4.5.
"""

import argparse
import functools
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esrgan_jax.command_line import model_type, parse
from esrgan_jax.errors import InputError, listed, printable, run_command
from esrgan_jax.mixture import ALPHA


def interpolate_params(psnr: Any, gan: Any, alpha: float) -> Any:
    """(1 - alpha) · psnr + alpha · gan over every leaf (§3.4, equation 4).

    Only a GAN generator that was trained from that PSNR generator gives a sensible mixture.

    Args:
        psnr: Parameters of the PSNR-oriented generator, any pytree of arrays.
        gan: Parameters of the GAN generator, the same tree with the same shapes.
        alpha: Any finite number: 0 is exactly `psnr`, 1 exactly `gan`, beyond is extrapolation.

    Raises:
        InputError: alpha is not finite, the trees differ (the first differences are named), or
            leaves that are no floating-point numbers would have to be mixed.
    """
    return mix_params([psnr, gan], [1 - alpha, alpha])


def mix_params(trees: Sequence[Any], weights: Sequence[float]) -> Any:
    """Σ weight · tree over any number of equally shaped pytrees; raises as `interpolate_params`.

    A tree of weight 0 has no part in it, and one left alone with weight 1 is returned bit for bit.
    """
    import jax
    import jax.numpy as jnp

    if len(trees) != len(weights) or not trees:
        raise InputError(f"{len(trees)} networks and {len(weights)} weights: give each its weight")
    if not all(math.isfinite(weight) for weight in weights):
        raise InputError(f"weights must be finite numbers, got {list(weights)}")
    for tree in trees[1:]:
        check_same_shapes(trees[0], tree)

    # 0 · inf would be NaN, and a sum with 0 turns -0.0 into 0.0.
    parts = [(weight, tree) for weight, tree in zip(weights, trees, strict=True) if weight]
    if not parts:
        raise InputError("all weights are 0: there is no network to mix")
    if len(parts) == 1 and parts[0][0] == 1:
        return parts[0][1]

    def mix(*leaves: Any) -> Any:
        dtype = leaves[0].dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(f"a leaf of {dtype} cannot be mixed, only floating-point ones")
        terms = (weight * leaf for (weight, _), leaf in zip(parts, leaves, strict=True))
        return functools.reduce(operator.add, terms).astype(dtype)  # NumPy widens, JAX does not

    return jax.tree.map(mix, *(tree for _, tree in parts))


def check_same_shapes(first: Any, second: Any) -> None:
    """InputError naming the leaves (path and shape) that the two trees do not share."""
    a, b = _shapes(first), _shapes(second)
    differences = [
        f"{path}: {a.get(path, 'absent')} and {b.get(path, 'absent')}"
        for path in sorted(a.keys() | b.keys())
        if a.get(path) != b.get(path)
    ]
    if differences:
        raise InputError(f"the networks are not of one architecture: {listed(differences)}")
    import jax

    structures = [jax.tree.structure(tree) for tree in (first, second)]
    if structures[0] != structures[1]:
        raise InputError(
            f"the networks have the same leaves in different containers, {structures[0]} and "
            f"{structures[1]}; bring both into one form"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    import jax

    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def load_mixture(psnr_model: str | Path, gan_model: str | Path, alpha: float) -> tuple[Any, Any]:
    """(module, variables) of (1 - alpha) · psnr_model + alpha · gan_model; as `load_models`."""
    return load_models([(psnr_model, 1 - alpha), (gan_model, alpha)])[:2]


def load_models(weighted: Sequence[tuple[str | Path, float]]) -> tuple[Any, Any, str]:
    """(module, variables, name) of Σ weight · model: runs, checkpoints, files or zoo names.

    The name has every model's hash in it, see `describe_model`.

    Raises:
        InputError: as `load_generator` and `mix_params`, the architectures differ, or two are one
            and the same.
    """
    from esrgan_jax.checkpoint import load_generator

    loaded = [load_generator(model) for model, _ in weighted]
    first, module = weighted[0][0], loaded[0][0]
    places = {_place(first): first}
    for (model, _), (other, _) in zip(weighted[1:], loaded[1:], strict=True):
        if same := places.get(_place(model)):
            raise InputError(
                f"{same} and {model} are the same network; "
                "of a run name the two stages, WORKDIR/psnr and WORKDIR/gan"
            )
        places[_place(model)] = model
        if _kind(other) != _kind(module):
            raise InputError(
                f"{first} is {_kind(module)} and {model} is {_kind(other)}; "
                "only networks of one architecture can be interpolated"
            )
        if differs := _differences(module, other):
            raise InputError(
                f"{first} and {model} are not of one architecture, and cannot be mixed: {differs}"
            )
    terms = [
        describe_model(model, variables) + ("" if weight == 1 else f" x {weight:g}")
        for (model, weight), (_, variables) in zip(weighted, loaded, strict=True)
        if weight
    ]
    try:
        mixed = mix_params([variables for _, variables in loaded], [w for _, w in weighted])
    except InputError as error:
        names = " and ".join(str(model) for model, _ in weighted)
        raise InputError(f"{names}: {error}") from None
    return loaded[-1][0], mixed, " + ".join(terms)


def describe_model(model: str | Path, variables: Any) -> str:
    """A model's name and what identifies it: the SHA-256 of its file, or of a folder's parameters.

    Such as "RRDB_ESRGAN_x4.npz sha256:0123456789abcdef", the first 16 digits.
    """
    import hashlib

    import jax

    from esrgan_jax.files import sha256
    from esrgan_jax.interop.zoo import resolve

    path = Path(resolve(model))
    if path.is_file():
        return f"{path.name} sha256:{sha256(path)[:16]}"
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(variables):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return f"{path.name} parameters sha256:{digest.hexdigest()[:16]}"


def _place(model: str | Path) -> Path:
    """The checkpoint or file that a model's name leads to: a run's is that of its newest stage."""
    from etils import epath

    from esrgan_jax.checkpoint import find_checkpoint

    # Path resolves links, which epath.Path does not.
    path = epath.Path(model).expanduser()
    return Path(find_checkpoint(path) or path).resolve()


def _differences(first: Any, second: Any) -> str:
    """The fields of two modules of one class that differ, with both values; "" where none does."""
    fields = {k: v for k, v in vars(first).items() if isinstance(v, int | str) and k != "name"}
    return ", ".join(
        f"{name} is {value} and {other}"
        for name, value in fields.items()
        if (other := getattr(second, name)) != value
    )


def _kind(module: Any) -> str:
    """What the shapes of the parameters need not tell: unshuffling looks like more channels."""
    unshuffle = getattr(module, "unshuffle", 1)
    folded = f" with unshuffle {unshuffle}" if unshuffle > 1 else ""
    return f"a x{module.scale} {type(module).__name__}{folded}"


def interpolate_pictures(psnr: Path, gan: Path, alpha: float, output: Path) -> list[Path]:
    """Blends two pictures, or the pictures of two folders by relative name, into PNG files.

    All pairs are found before any is blended; a pair of different sizes raises InputError.
    Returns the files written.
    """
    from esrgan_jax.picture import read_picture, write_picture

    written = []
    psnr, gan, output = (path.expanduser() for path in (psnr, gan, output))
    for first, second, target in _picture_pairs(psnr, gan, output):
        a, b = read_picture(first), read_picture(second)
        if a.shape != b.shape:
            raise InputError(
                f"{first} has {a.shape[1]}x{a.shape[0]} px and {second} "
                f"{b.shape[1]}x{b.shape[0]} px; blend pictures of one size"
            )
        write_picture(target, blend(a, b, alpha))
        written.append(target)
    return written


def blend(psnr: np.ndarray, gan: np.ndarray, alpha: float) -> np.ndarray:
    """(1 - alpha) · psnr + alpha · gan of two uint8 pictures, rounded (half to even) once."""
    mixture = (1 - alpha) * psnr.astype(np.float64) + alpha * gan.astype(np.float64)
    return np.rint(mixture.clip(0, 255)).astype(np.uint8)


def _picture_pairs(psnr: Path, gan: Path, output: Path) -> list[tuple[Path, Path, Path]]:
    from esrgan_jax.picture import find_pictures

    for path in (psnr, gan):
        if not path.exists():
            raise InputError(f"no picture or folder {path}")
    if psnr.is_dir() != gan.is_dir():
        raise InputError(f"{psnr} and {gan}: --images takes two pictures or two folders")
    if not psnr.is_dir():
        if output.suffix.lower() != ".png":
            raise InputError(f"--output={output}: two pictures make one file, named *.png")
        return [(psnr, gan, output)]
    names = [{path.relative_to(folder) for path in find_pictures(folder)} for folder in (psnr, gan)]
    unpaired = [str(name) for name in sorted(names[0] ^ names[1])]
    if unpaired:
        raise InputError(
            f"{psnr} and {gan} do not share {listed(unpaired)}; "
            "the two folders must hold pictures of the same names"
        )
    targets: dict[Path, Path] = {}
    for name in sorted(names[0]):
        other = targets.setdefault(output / name.with_suffix(".png"), name)
        if other != name:
            raise InputError(f"{other} and {name} of {psnr} would write the same PNG; rename one")
    return [(psnr / name, gan / name, target) for target, name in targets.items()]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m esrgan_jax.interpolate",
        description="Mix a PSNR-oriented and a GAN generator: (1 - alpha) PSNR + alpha GAN.",
        epilog="MODEL is a run or checkpoint directory, a weight file or a name of the zoo.",
    )
    parser.add_argument(
        "--psnr", metavar="MODEL", required=True, type=model_type, help="the PSNR generator"
    )
    parser.add_argument(
        "--gan", metavar="MODEL", required=True, type=model_type, help="the GAN generator"
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=ALPHA,
        help="0 is the PSNR generator, 1 the GAN generator (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        required=True,
        type=model_type,
        help="file to write (.safetensors, .pth, .npz), or a directory for a checkpoint",
    )
    parser.add_argument(
        "--images",
        action="store_true",
        help="blend pictures instead: --psnr, --gan and --output are pictures or folders",
    )
    args = parse(parser, argv)
    if not math.isfinite(args.alpha):
        raise InputError(f"--alpha={args.alpha}: give a finite number, such as 0.8")
    if args.images:
        written = interpolate_pictures(
            Path(args.psnr), Path(args.gan), args.alpha, Path(args.output)
        )
        what = f"{len(written)} blended picture{'s' if len(written) != 1 else ''}"
    else:
        from esrgan_jax.checkpoint import save_generator

        module, variables = load_mixture(args.psnr, args.gan, args.alpha)
        save_generator(args.output, module, variables)
        what = _kind(module)
    mixture = f"{1 - args.alpha:g} · {args.psnr} + {args.alpha:g} · {args.gan}"
    print(printable(f"{args.output}: {what}, {mixture}"))


if __name__ == "__main__":
    run_command(main)
