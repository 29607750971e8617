"""Checkpoints of runs by Orbax v1, and generators from anywhere.

A run keeps its checkpoints in `STAGE/checkpoints/STEP`, each with the train state, the position of
the data and the config. A generator saved alone is a checkpoint of its parameters and architecture.
"""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import linen as nn
from orbax.checkpoint import v1 as ocp

from esrgan_jax.errors import InputError
from esrgan_jax.interop import rrdb_names, torch_file, weight_file
from esrgan_jax.models import RRDBNet, create_generator
from esrgan_jax.train_state import TrainState

FOLDER = "checkpoints"
_METADATA = "_CHECKPOINT_METADATA"  # in every finished checkpoint of Orbax
# Says how a generator is computed, not what it is: never restored from a file.
_COMPUTATION = ("dtype", "remat", "unroll", "initializer")


def _context() -> ocp.Context:
    """The config is kept as readable JSON; Orbax would make a tree of arrays of it."""
    registry = ocp.handlers.local_registry(include_global_registry=True)
    registry.add(ocp.handlers.JsonHandler, checkpointable_name="config")
    context = ocp.Context()
    context.checkpointables.registry = registry
    return context


def open_checkpoints(folder: epath.Path, keep: int) -> ocp.training.Checkpointer:
    """The checkpoints in a stage's folder: the newest `keep` and the best by PSNR stay."""
    policies = ocp.training.preservation_policies
    best = policies.BestN(
        get_metric_fn=lambda metrics: metrics["psnr_y"],
        n=1,
        keep_checkpoints_without_metrics=False,
    )
    return ocp.training.Checkpointer(
        (folder / FOLDER).resolve(),
        context=_context(),
        # Orbax's own policies do not declare the type that its Checkpointer asks for.
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),  # pyright: ignore[reportArgumentType]
        cleanup_tmp_directories=True,
    )


def save(
    checkpoints: ocp.training.Checkpointer,
    state: TrainState,
    data: Any,
    config: Mapping[str, Any],
    psnr_y: float | None = None,
) -> None:
    """Saves a run at its step in the background; the state may be donated at once.

    Args:
        state: The train state.
        data: The Grain iterator that made its batches.
        config: The run's config, of plain values.
        psnr_y: The validation score at this step, if there is one.
    """
    step = int(state.step)
    latest = checkpoints.latest
    if latest is not None and latest.step == step:
        return
    items = {"state": state, "data": data, "config": json.loads(json.dumps(config))}
    metrics: Any = None if psnr_y is None else {"psnr_y": psnr_y}
    # Forced, since Orbax's own policy would skip a save while another is under way.
    checkpoints.save_checkpointables_async(step, items, force=True, metrics=metrics)


def restore(checkpoints: ocp.training.Checkpointer, target: TrainState, data: Any) -> TrainState:
    """The newest state, placed as `target` says; `data` is brought to the same position.

    Args:
        target: The state's tree of `jax.ShapeDtypeStruct`, with shardings.
        data: A fresh Grain iterator, changed in place.
    """
    try:
        return checkpoints.load_checkpointables(None, {"state": target, "data": data})["state"]
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{checkpoints.directory}: the checkpoints do not fit this config. Go on with the "
            "generator, discriminator, ema_decay, clip_norm and data.num_workers that they were "
            f"made with, or take another --workdir ({str(error).splitlines()[0][:200]})"
        ) from None


def load_generator(model: str | os.PathLike) -> tuple[nn.Module, dict[str, Any]]:
    """A generator from anywhere.

    Args:
        model: The directory of a run, of one stage or of one checkpoint (the newest step; averaged
            weights where there are any), or a weight file: .safetensors, .npz, .pth, .pt or .ckpt
            in any naming. The tensors of an x3 network do not tell it from an x2 one: it is one
            if the file's name has 3x in it.

    Returns:
        The module, with the architecture and the scale read from the file, and its variables:
        {"params": tree, "batch_stats": tree or {}} of NumPy arrays.

    Raises:
        InputError: There is nothing that can be read, or not a generator.
    """
    path = epath.Path(model)
    if not path.exists():
        raise InputError(f"{path}: no such file or directory, wanted a generator")
    if path.is_dir():
        return _load_directory(path)
    scale = 3 if re.search(r"(^|[^0-9a-z])3x", path.stem.lower()) else 0
    fields, params = rrdb_names.from_torch(weight_file.read_tensors(path), str(path), scale)
    return RRDBNet(**fields), {"params": params, "batch_stats": {}}


def save_generator(
    path: str | os.PathLike,
    module: nn.Module,
    variables: Mapping[str, Any],
    naming: str = "basicsr",
    wrap: str = "",
    dtype: str = "float32",
) -> None:
    """Writes a generator alone.

    Args:
        path: A weight file, .safetensors, .npz or .pth (RRDBNet only), or, without a suffix, an
            Orbax directory, which must not exist.
        module: The generator.
        variables: Its variables, {"params", "batch_stats"}.
        naming: Of a weight file's tensors: "basicsr", "bsrgan" or "old".
        wrap: The key above the tensors of a .pth: "params_ema", "params" or "none"; left out,
            "params_ema", which Real-ESRGAN wants and all else accepts. Other files have none.
        dtype: Of a weight file's elements: "float32", "float16" or "bfloat16".

    Raises:
        InputError: The path cannot be used, or the network has no published naming.
    """
    path = epath.Path(path)
    variables = jax.tree.map(np.asarray, dict(variables))
    if path.suffix:
        if not isinstance(module, RRDBNet):
            raise InputError(
                f"{path}: only RRDB networks have names for weight files; "
                "leave the suffix out to write an Orbax directory"
            )
        fields = _architecture(module)
        fields.pop("name")
        tensors = rrdb_names.to_torch(fields, variables["params"], naming)
        tensors = {name: tensor.astype(np.dtype(dtype)) for name, tensor in tensors.items()}
        if path.suffix.lower() not in weight_file.TORCH_SUFFIXES:
            if wrap not in ("", "none"):
                raise InputError(f"{path}: only .pth files have a key above the tensors")
            weight_file.write_tensors(path, tensors)
        elif wrap == "none":
            torch_file.write(path, tensors)
        else:
            torch_file.write(path, {wrap or "params_ema": tensors})
        return
    if path.exists():
        raise InputError(f"{path}: exists already; give a new path or a file name with a suffix")
    network = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    items = {"state": {"generator": network}, "config": {"generator": _architecture(module)}}
    with _context():
        ocp.save_checkpointables(path.resolve(), items)


def find_checkpoint(path: epath.Path) -> epath.Path | None:
    """The newest checkpoint in the directory of a checkpoint, a stage or a run (GAN first)."""
    if (path / _METADATA).exists():
        return path.resolve()
    steps = [entry.parent for entry in path.glob(f"*/{_METADATA}") if entry.parent.name.isdigit()]
    if steps:
        return max(steps, key=lambda entry: int(entry.name)).resolve()
    for inner in (path / FOLDER, path / "gan", path / "psnr"):
        if inner.is_dir() and (found := find_checkpoint(inner)) is not None:
            return found
    return None


def _load_directory(path: epath.Path) -> tuple[nn.Module, dict[str, Any]]:
    step = find_checkpoint(path)
    if step is None:
        raise InputError(f"{path}: holds no checkpoint of a run or of a generator")
    try:
        with _context():
            config = ocp.load_checkpointables(step, {"config": None})["config"]
            saved = ocp.metadata(step, checkpointable_name="state").metadata
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{step}: is not a checkpoint of a generator ({error})") from error
    fields = {k: v for k, v in config["generator"].items() if k not in _COMPUTATION}
    averaged = saved.get("ema_params") is not None
    params_at = "ema_params/" if averaged else "generator/params/"

    def target(keys: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(keys, simple=True, separator="/")
        if name.startswith((params_at, "generator/batch_stats/")):
            return np.empty(leaf.shape, leaf.dtype)
        return ocp.PLACEHOLDER  # Adam's moments and the discriminator stay on the disk

    state = ocp.load(
        step, jax.tree_util.tree_map_with_path(target, saved), checkpointable_name="state"
    )
    params = state["ema_params"] if averaged else state["generator"]["params"]
    batch_stats = state["generator"].get("batch_stats") or {}
    return create_generator(**fields), {"params": params, "batch_stats": batch_stats}


def _architecture(module: nn.Module) -> dict[str, Any]:
    """The arguments of `create_generator` that make this module's architecture."""
    inherited = ("parent", "name", *_COMPUTATION)
    fields = {k: getattr(module, k) for k in module.__dataclass_fields__ if k not in inherited}
    return {"name": "rrdb" if isinstance(module, RRDBNet) else "srresnet", **fields}
