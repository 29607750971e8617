"""Device mesh with the axes `data` and `fsdp`: what is split over it, and what is replicated.

Batches are split over all devices. The state of a training is replicated, or split over the devices
of the axis `fsdp` by rules.
"""

import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

NOT_SET = -1  # JAX's default number of CPU devices, which means one
MOST_CORES = 8  # each has a copy of the parameters
FSDP = "fsdp"
PLACEMENTS = ("replicated", FSDP)
SMALL = 2**14  # values; arrays of fewer are not split, since a message costs more than it saves


def split_cpu(*batches: int) -> None:
    """Makes each CPU core a device, unless JAX is initialised already.

    By default JAX treats the CPU as one device, and XLA computes many convolutions on one core.
    With accelerators, or if the number of CPU devices is set already, by JAX's own option or by
    XLA_FLAGS, nothing changes.

    Args:
        *batches: Batch sizes that the number of devices must divide.
    """
    simulated = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    options: Any = jax.config  # its class does not declare them
    if simulated or options.jax_num_cpu_devices != NOT_SET:
        return
    cores = min(usable_cores(), MOST_CORES)
    even = [n for n in range(1, cores + 1) if all(batch % n == 0 for batch in batches)]
    with contextlib.suppress(RuntimeError):  # JAX is initialised
        jax.config.update("jax_num_cpu_devices", max(even))


def usable_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def create_mesh(devices: Sequence[Any] | None = None, fsdp: int = 1) -> Mesh:
    """Creates a mesh of all devices, or of those passed; of several processes, one after the other.

    It has the axis `data`, and `fsdp` with so many devices if there is more than one. The axis type
    is Auto, so that the compiler chooses the sharding of intermediate results. With JAX's default,
    Explicit, some convolutions need shardings that Flax Linen cannot pass.
    """
    row = jax.devices() if devices is None else devices
    names = ("data", FSDP) if fsdp > 1 else ("data",)
    shape = (len(row) // fsdp, fsdp)[: len(names)]
    types = (AxisType.Auto,) * len(names)
    if devices is None and jax.process_count() > 1:
        # make_mesh could mix the processes, and each has consecutive rows of a batch.
        row = sorted(row, key=lambda device: (device.process_index, device.id))
        return Mesh(np.array(row).reshape(shape), names, axis_types=types)
    return jax.make_mesh(shape, names, types, devices=row)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that is copied to every device."""
    return NamedSharding(mesh, PartitionSpec())


def placements(tree: Any, mesh: Mesh, rules: Sequence[tuple[str, str]]) -> Any:
    """Returns the sharding of each array of a tree.

    Args:
        tree: Arrays or their shapes.
        mesh: The devices.
        rules: Pairs of a regular expression and one of PLACEMENTS. The first one counts whose
            expression is found in an array's path, such as "generator/params/conv_first/kernel";
            without any the array is replicated. "fsdp" splits the largest dimension that the
            devices of the axis `fsdp` divide, and replicates arrays of fewer than SMALL values.
    """

    def one(path: Any, leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        kinds = (kind for pattern, kind in rules if re.search(pattern, name))
        return NamedSharding(mesh, _split(leaf.shape, mesh, next(kinds, "replicated")))

    return jax.tree_util.tree_map_with_path(one, tree)


def _split(shape: tuple[int, ...], mesh: Mesh, kind: str) -> PartitionSpec:
    count = mesh.shape.get(FSDP, 1)
    fits = [size for size in shape if size % count == 0]
    if kind != FSDP or count == 1 or not fits or math.prod(shape) < SMALL:
        return PartitionSpec()
    return PartitionSpec(*[None] * shape.index(max(fits)), FSDP)


def shapes(tree: Any, placement: Any) -> Any:
    """Returns `jax.ShapeDtypeStruct`s of arrays; the shardings are one for all, or such a tree."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        jax.tree.broadcast(placement, tree),
    )


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays, which are equal in all processes, to every device."""
    return jax.tree.map(lambda array: place(array, replicated(mesh)), tree)


def place(array: Any, sharding: Any) -> jax.Array:
    """Puts an array, which is equal in all processes, on the devices of a sharding."""
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    host = np.asarray(array)  # device_put would compare it with those of the other processes
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def local(tree: Any) -> Any:
    """Returns arrays for use by this process alone; all processes must call it.

    With several processes, arrays that are split are gathered on each device.
    """
    if jax.process_count() == 1:
        return tree

    def one(array: jax.Array) -> jax.Array:
        if not array.is_fully_replicated:
            sharding: Any = array.sharding
            array = _gathering(sharding.mesh)(array)
        return array.addressable_data(0)

    return jax.tree.map(one, tree)


@functools.lru_cache  # otherwise each call would compile a program for each array
def _gathering(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda array: array, out_shardings=replicated(mesh))


def constrain(tree: Any, placement: Any) -> Any:
    """Returns arrays of a compiled function with shardings; unchanged if there are none."""
    return tree if placement is None else lax.with_sharding_constraint(tree, placement)


def whole(tree: Any, placement: Any) -> Any:
    """Returns arrays of a compiled function, of which each device had parts, on every device."""
    return constrain(tree, jax.tree.map(lambda sharding: replicated(sharding.mesh), placement))


def batched(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over the devices."""
    return NamedSharding(mesh, batch_spec(mesh))


def batch_spec(mesh: Mesh) -> PartitionSpec:
    """Returns the specification that splits the leading axis over all axes of the mesh."""
    names: Any = mesh.axis_names
    return PartitionSpec(names if len(names) > 1 else names[0])


def split_over(mesh: Mesh, function: Callable[[Any, Any], Any], placement: Any = None) -> Any:
    """Returns `function(params, batch)`, which each device computes of its part of the batch.

    Gradients of the parameters are summed over the devices once, after all of the function.

    Args:
        mesh: The devices.
        function: Of arrays on one device.
        placement: The shardings of the parameters, if they are split over devices. The function
            gets all of them, and each device the sum of the gradients of its part.
    """
    specs: Any = PartitionSpec()
    if placement is not None:
        specs = jax.tree.map(lambda sharding: sharding.spec, placement)

    def gathered(params: Any, batch: Any) -> Any:
        if placement is not None:
            params = jax.tree.map(_gather, params, specs)
        return function(params, batch)

    arguments: dict[str, Any] = {
        "in_specs": (specs, batch_spec(mesh)),
        "out_specs": batch_spec(mesh),
    }
    # With the check, the sums would be where the parameters are used, in the loop over blocks.
    return jax.shard_map(gathered, mesh=mesh, check_vma=False, **arguments)


def _gather(array: jax.Array, spec: PartitionSpec) -> jax.Array:
    # Its gradient is a reduce-scatter.
    return lax.all_gather(array, FSDP, axis=spec.index(FSDP), tiled=True) if spec else array


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's part of a batch on its devices, split along the leading axis."""
    sharding = batched(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
