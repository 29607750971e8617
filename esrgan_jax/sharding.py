"""Device mesh with one axis, `data`: batches are split over it, all else is replicated."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

NOT_SET = -1  # JAX's default number of CPU devices, which means one
MOST_CORES = 8  # each has a copy of the parameters


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


def create_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Creates a mesh of all devices, or of those passed; of several processes, one after the other.

    The axis type is Auto, so that the compiler chooses the sharding of intermediate results. With
    JAX's default, Explicit, some convolutions need shardings that Flax Linen cannot pass.
    """
    if devices is None and jax.process_count() > 1:
        # make_mesh could mix the processes, and each has consecutive rows of a batch.
        row = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
        return Mesh(np.array(row), ("data",), axis_types=(AxisType.Auto,))
    row = jax.devices() if devices is None else devices
    return jax.make_mesh((len(row),), ("data",), (AxisType.Auto,), devices=row)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that is copied to every device."""
    return NamedSharding(mesh, PartitionSpec())


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
    """Returns replicated arrays for use by this process alone."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda array: array.addressable_data(0), tree)


def batched(mesh: Mesh) -> NamedSharding:
    """Returns the sharding that splits the leading axis over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def split_over(mesh: Mesh, function: Callable[[Any, Any], Any]) -> Any:
    """Returns `function(params, batch)`, which each device computes of its part of the batch.

    Gradients of the parameters are summed over the devices once, after all of the function.
    """
    parts = PartitionSpec("data")
    specs: dict[str, Any] = {"in_specs": (PartitionSpec(), parts), "out_specs": parts}
    # With the check, the sums would be where the parameters are used, in the loop over blocks.
    return jax.shard_map(function, mesh=mesh, check_vma=False, **specs)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's part of a batch on its devices, split along the leading axis."""
    sharding = batched(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
