"""Loads and saves generators and discriminators: Orbax v1 checkpoints and weight files.

A generator that is saved alone is a checkpoint of its parameters and architecture. The checkpoints
of runs are in `training/run_checkpoints.py`. Orbax is imported where it is used, since upscaling
by a weight file does without it.
"""

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np
from etils import epath

from esrgan_jax import bucket, checksums
from esrgan_jax.errors import InputError
from esrgan_jax.files import write_error
from esrgan_jax.interop import discriminator_names, rrdb_names, unet_names, weight_file, zoo
from esrgan_jax.models import (
    COMPUTATION,
    Generator,
    RRDBNet,
    create_generator,
    field_names,
    generator_name,
)
from esrgan_jax.models.generator import Params, Variables

FOLDER = "checkpoints"


def load_generator(
    model: str | os.PathLike[str], *, key: str = "", scale: int = 0, unshuffle: int = 0
) -> tuple[Generator, dict[str, Params]]:
    """Loads a generator from a run, a checkpoint, a weight file or the zoo.

    Args:
        model: The directory of a run, of one stage or of one checkpoint (the newest step; averaged
            weights if it has them), also in a bucket, gs://…; or a weight file: .safetensors, .npz,
            .pth, .pt, .ckpt, .pth.tar or .bin in any naming; or, if no such path exists, a name of
            the zoo, whose file is downloaded once.
        key: Name of the network in a weight file; by default, averaged weights are preferred.
        scale: 3 for a weight file of an x3 network, whose tensors look like those of an x2
            network; by default, 3 if the file's name contains 3x.
        unshuffle: Factor of the pixel unshuffle of a weight file's network, if
            `rrdb_names.from_torch` detects a wrong one.

    Returns:
        The module, with the architecture and the scale read from the file, and its variables:
        {"params": tree, "batch_stats": tree or {}} of NumPy arrays.

    Raises:
        InputError: The path does not exist, cannot be read, or is not a generator.
        RunError: A file of the zoo cannot be downloaded.
    """
    if not os.fspath(model):
        raise InputError("the generator's name is empty: give a run, a weight file or a zoo name")
    path = _place(model)
    if not (bucket.is_bucket(path) or path.exists()):
        path = epath.Path(zoo.resolve(model))
    if bucket.is_bucket(path) or path.is_dir():
        if key or scale or unshuffle:
            raise InputError(f"{path}: key, scale and unshuffle are for weight files, not folders")
        return _load_directory(path)
    tensors = weight_file.read_tensors(path, key)
    by_name = 3 if rrdb_names.says_x3(path) else 0
    fields, params = rrdb_names.from_torch(tensors, str(path), scale or by_name, unshuffle)
    if scale and fields["scale"] != scale:
        raise InputError(f"{path}: enlarges {fields['scale']} times, and cannot {scale} times")
    return RRDBNet(**fields), {"params": params, "batch_stats": {}}


def save_generator(
    path: str | os.PathLike[str],
    module: Generator,
    variables: Variables,
    naming: str = "basicsr",
    wrap: str = "",
    dtype: str = "float32",
) -> None:
    """Saves a generator without training state.

    Args:
        path: A weight file, .safetensors, .npz or .pth (RRDBNet only), or, without a suffix, an
            Orbax directory, which must not exist.
        module: The generator.
        variables: Its variables, {"params", "batch_stats"}.
        naming: Naming of a weight file's tensors: "basicsr", "bsrgan" or "old".
        wrap: The key above the tensors of a .pth: "params_ema", "params" or "none"; by default
            "params_ema", which Real-ESRGAN needs and others accept. Other files have no such key.
        dtype: Dtype of a weight file's tensors: "float32", "float16", "bfloat16" or "float64".

    Raises:
        InputError: The path cannot be used, or the network has no published naming. The name of a
            weight file of an x3 network must contain 3x, since its tensors are those of x2.
    """
    path = _place(path)
    variables = jax.tree.map(np.asarray, dict(variables))
    if path.suffix:
        fields = _architecture(module)
        if fields.pop("name") != "rrdb":
            raise InputError(
                f"{path}: only RRDB networks have names for weight files; "
                "leave the suffix out to write an Orbax directory"
            )
        rrdb_names.check_name(path, fields["scale"])
        tensors = rrdb_names.to_torch(fields, variables["params"], naming)
        weight_file.write_network(path, weight_file.cast(tensors, dtype), wrap)
        return
    if path.exists():
        raise InputError(f"{path}: exists already; give a new path or a file name with a suffix")
    from orbax.checkpoint import v1 as ocp

    from esrgan_jax.orbax_setup import orbax_context

    network = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    items = {"state": {"generator": network}, "config": {"generator": _architecture(module)}}
    sums = checksums.record(items["state"], {"config": items["config"]})
    try:
        # Orbax's threads hang if they cannot make the directory.
        if not bucket.is_bucket(path):
            path.mkdir(parents=True)
            path.rmtree()
        with orbax_context(), bucket.reached(path):
            ocp.save_checkpointables(bucket.absolute(path), items, custom_metadata=sums)
    except OSError as error:
        raise write_error(path, error) from error


def find_checkpoint(path: epath.Path) -> epath.Path | None:
    """Finds the newest checkpoint in the directory of a checkpoint, a stage or a run (GAN first).

    It may lack files; then reading it raises DamagedError.
    """
    if _is_checkpoint(path):
        return bucket.absolute(path)
    steps = [e for e in bucket.entries(path) if e.name.isdigit() and bucket.is_saved(e)]
    if steps := [e for e in steps if path.name == FOLDER or _is_checkpoint(e)]:
        return bucket.absolute(max(steps, key=lambda entry: int(entry.name)))
    for inner in (path / FOLDER, path / "gan", path / "psnr"):
        if bucket.entries(inner) and (found := find_checkpoint(inner)) is not None:
            return found
    return None


def saved_steps(folder: epath.Path) -> list[int]:
    """Returns the steps of the checkpoints in a stage's folder, newest first, damaged or not."""
    found = [e for e in bucket.entries(folder / FOLDER) if e.name.isdigit() and bucket.is_saved(e)]
    return sorted((int(entry.name) for entry in found), reverse=True)


def verify(path: epath.Path) -> None:
    """Raises DamagedError if the newest checkpoint in a directory is not as it was saved."""
    step, _, saved = _describe(path)
    _load_part(step, saved, ("",))


def _is_checkpoint(path: epath.Path) -> bool:
    files = path / checksums.METADATA, path / "state" / "manifest.ocdbt"
    with bucket.reached(path):
        return bucket.is_saved(path) and any(file.exists() for file in files)


def load_discriminator(
    model: str | os.PathLike[str], *, key: str = ""
) -> tuple[dict[str, Any], dict[str, Params]]:
    """Loads the discriminator of a run's GAN stage or of a weight file with BasicSR's names.

    Args:
        model: The directory of a run, of its GAN stage or of one checkpoint, or a weight file.
        key: Name of the network in a weight file that has several.

    Returns:
        The discriminator's name and fields as its `from_torch` in `interop.discriminator_names` or
        `interop.unet_names` returns them, and its variables {"params", "batch_stats"}.

    Raises:
        InputError: The path does not exist, cannot be read, or is not a discriminator.
    """
    if not os.fspath(model):
        raise InputError("the discriminator's name is empty: give a run or a weight file")
    path = _place(model)
    if not (bucket.is_bucket(path) or path.is_dir()):
        tensors = weight_file.read_tensors(path, key)
        return _d_names("conv0.weight" in tensors).from_torch(tensors, str(path))
    step, _, saved = _describe(path)
    if saved.get("discriminator") is None:
        raise InputError(f"{step}: has no discriminator; give a checkpoint of a GAN stage")
    places = ("discriminator/params/", "discriminator/batch_stats/")
    network = _load_part(step, saved, places)["discriminator"]
    variables = {name: network[name] for name in ("params", "batch_stats")}
    return _d_names("conv0" in network["params"]).fields(variables), variables


def save_discriminator(path: str | os.PathLike[str], variables: Variables, wrap: str = "") -> None:
    """Saves a discriminator as a weight file with BasicSR's names.

    Args:
        path: .safetensors, .npz or .pth.
        variables: Its variables, {"params", "batch_stats"}.
        wrap: The key above the tensors of a .pth; by default "params", as in BasicSR.

    Raises:
        InputError: The path cannot be used.
    """
    variables = jax.tree.map(np.asarray, dict(variables))
    names = _d_names("conv0" in variables["params"])
    tensors = names.to_torch(names.fields(variables), variables)
    if not wrap and epath.Path(path).suffix.lower() in weight_file.TORCH_SUFFIXES:
        wrap = "params"
    weight_file.write_network(path, tensors, wrap)


def _place(path: str | os.PathLike[str]) -> epath.Path:
    in_bucket = os.fspath(path).startswith(bucket.SCHEMES)
    return bucket.opened(path) if in_bucket else epath.Path(path).expanduser()


def _d_names(unet: bool) -> ModuleType:
    return unet_names if unet else discriminator_names


def _load_directory(path: epath.Path) -> tuple[Generator, dict[str, Params]]:
    step, config, saved = _describe(path)
    fields = {k: v for k, v in config["generator"].items() if k not in COMPUTATION}
    averaged = saved.get("ema_params") is not None
    params_at = "ema_params/" if averaged else "generator/params/"
    state = _load_part(step, saved, (params_at, "generator/batch_stats/"))
    params = state["ema_params"] if averaged else state["generator"]["params"]
    batch_stats = state["generator"].get("batch_stats") or {}
    return create_generator(**fields), {"params": params, "batch_stats": batch_stats}


def _describe(path: epath.Path) -> tuple[epath.Path, dict[str, Any], Any]:
    """Returns a directory's newest checkpoint, its config, and the metadata of its arrays."""
    from orbax.checkpoint import v1 as ocp

    from esrgan_jax.orbax_setup import load_items, orbax_context

    step = find_checkpoint(path)
    if step is None:
        raise InputError(f"{path}: holds no checkpoint of a run or of a generator")
    sums = checksums.read(step)
    config = load_items(step, {"config": None})["config"]
    checksums.verify_item(step, sums, "config", config)
    try:
        with orbax_context():
            saved = ocp.metadata(step, checkpointable_name="state").metadata
        assert isinstance(saved, Mapping)
        assert isinstance(config["generator"], Mapping)
        return step, config, saved
    except Exception as error:  # Orbax raises nearly every kind
        raise checksums.DamagedError(step, "its content cannot be read") from error


def _load_part(step: epath.Path, saved: Any, places: tuple[str, ...]) -> Any:
    """Reads only the arrays whose paths start with one of `places`, not Adam's moments."""
    from orbax.checkpoint import v1 as ocp

    from esrgan_jax.orbax_setup import load_items

    def target(keys: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        return np.empty(leaf.shape, leaf.dtype) if name.startswith(places) else ocp.PLACEHOLDER

    try:
        wanted = jax.tree_util.tree_map_with_path(target, saved)
    except Exception as error:  # shapes and types of any kind
        raise checksums.DamagedError(step, "its content cannot be read") from error
    state = load_items(step, {"state": wanted})["state"]
    read = jax.tree.map(lambda leaf: None if leaf is ocp.PLACEHOLDER else leaf, state)
    checksums.verify_arrays(step, checksums.read(step), read)
    return state


def _architecture(module: Generator) -> dict[str, Any]:
    """Returns the arguments of `create_generator` for this module's architecture."""
    names = sorted(field_names(type(module)) - {*COMPUTATION})
    return {"name": generator_name(module), **{name: getattr(module, name) for name in names}}
