"""One mesh axis, `data`: batches are split over it, everything else is on every device."""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


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
