"""One mesh axis, `data`: batches are split over it, everything else is on every device."""

import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MOST_CORES = 8  # each has a copy of the parameters


def split_cpu(*batches: int) -> None:
    """Makes each core a device, to be called before JAX has looked for devices.

    By itself JAX takes a processor for one device, and XLA computes the convolutions of small
    networks on one of its cores. Nothing changes where there are accelerators, or where
    JAX_NUM_CPU_DEVICES says how many devices there are to be.

    Args:
        *batches: Images that have to be shared out evenly.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ:
        return
    affinity = getattr(os, "sched_getaffinity", None)  # of Linux: the cores that we may use
    cores = min(len(affinity(0)) if affinity else os.cpu_count() or 1, MOST_CORES)
    even = [n for n in range(1, cores + 1) if all(batch % n == 0 for batch in batches)]
    jax.config.update("jax_num_cpu_devices", max(even))


def create_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """All devices (or those given) in a row.

    The axis is of type Auto, where the compiler places what is in between: under JAX's default,
    Explicit, convolutions of some placements ask for shardings that Flax Linen cannot give.
    """
    row = jax.devices() if devices is None else devices
    return jax.make_mesh((len(row),), ("data",), (AxisType.Auto,), devices=row)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """This process's part of a batch (NumPy, leading axis first) as part of the global arrays."""
    sharding = batched(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)
