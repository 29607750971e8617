"""Tests of meshes, sharded batches and gradients on eight simulated devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from esrgan_jax import sharding
from esrgan_jax.models.conv import Conv
from esrgan_jax.sharding import batched, create_mesh, placements, put_batch, replicated


def test_the_mesh_has_one_axis_with_all_devices():
    mesh = create_mesh()
    assert mesh.axis_names == ("data",)
    assert list(mesh.devices) == jax.devices()
    assert mesh.size == 8
    assert mesh.axis_types == (AxisType.Auto,)


def test_a_mesh_can_have_some_devices_only():
    some = jax.devices()[2:5]
    assert list(create_mesh(some).devices) == some


def test_a_second_axis_takes_its_devices_from_the_first():
    mesh = create_mesh(fsdp=4)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4}
    assert list(mesh.devices.flat) == jax.devices()
    assert mesh.axis_types == (AxisType.Auto,) * 2
    assert batched(mesh).spec == P(("data", "fsdp"))
    assert batched(mesh).shard_shape((16, 3)) == (2, 3)


def test_the_first_rule_that_fits_places_an_array():
    small, large = jnp.zeros((sharding.SMALL // 16 - 1, 16)), jnp.zeros((sharding.SMALL // 16, 16))
    tree = {
        "params": {"small": small, "kernel": large, "odd": jnp.zeros((51, 53, 7)), "step": 3},
        "batch_stats": {"mean": large},
        "opt_state": ({"mu": jnp.zeros((4, 8, 3, 1000))}, {"nu": jnp.zeros((4, 8, 3, 999))}),
    }
    tree = jax.tree.map(jnp.asarray, tree)
    mesh = create_mesh(fsdp=4)

    def specs(*rules):
        return jax.tree.map(lambda x: x.spec, placements(tree, mesh, rules))

    found = specs(("batch_stats", "replicated"), (".*", "fsdp"))
    assert found["params"] == {"small": P(), "kernel": P("fsdp"), "odd": P(), "step": P()}
    assert found["batch_stats"] == {"mean": P()}
    assert found["opt_state"] == ({"mu": P(None, None, None, "fsdp")}, {"nu": P(None, "fsdp")})
    found = specs(("^opt_state/0", "fsdp"), ("mu|kernel", "replicated"), ("params/.*el", "fsdp"))
    assert found["params"]["kernel"] == found["opt_state"][1]["nu"] == P()
    assert found["opt_state"][0]["mu"] != P()
    assert set(jax.tree.leaves(specs())) == {P()}


def test_batched_arrays_are_split_and_replicated_ones_are_whole(rng):
    mesh = create_mesh(jax.devices()[:4])
    x = rng.random((8, 3), np.float32)
    split = jax.device_put(x, batched(mesh))
    whole = jax.device_put(x, replicated(mesh))
    assert len(split.addressable_shards) == len(whole.addressable_shards) == 4
    for index, device in enumerate(mesh.devices):
        parts = {shard.device: shard.data for shard in split.addressable_shards}
        np.testing.assert_array_equal(parts[device], x[2 * index : 2 * index + 2])
    for shard in whole.addressable_shards:
        np.testing.assert_array_equal(shard.data, x)


def test_put_batch_keeps_the_tree_and_dtypes(rng):
    mesh = create_mesh()
    batch = {
        "hr": rng.integers(0, 256, (16, 4, 4, 3), dtype=np.uint8),
        "lr": rng.random((16, 2, 2, 3), np.float32),
    }
    put = put_batch(batch, mesh)
    assert set(put) == {"hr", "lr"}
    for name, array in put.items():
        assert array.sharding.is_equivalent_to(batched(mesh), array.ndim)
        assert array.dtype == batch[name].dtype
        np.testing.assert_array_equal(array, batch[name])


def test_a_batch_size_that_the_devices_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="partitioned 8 times, but the dimension size is 12"):
        put_batch({"hr": np.zeros((12, 4, 4, 3), np.uint8)}, create_mesh())


def test_gradients_equal_those_on_one_device(rng):
    network = Conv(4)
    x, y = rng.random((8, 6, 6, 3), np.float32), rng.random((8, 6, 6, 4), np.float32)
    params = network.init(jax.random.key(0), x)

    @jax.jit
    def value_and_grad(params, x, y):
        return jax.value_and_grad(lambda p: jnp.mean(jnp.abs(network.apply(p, x) - y)))(params)

    mesh = create_mesh()
    expected = value_and_grad(params, x, y)
    got = value_and_grad(
        jax.device_put(params, replicated(mesh)), put_batch(x, mesh), put_batch(y, mesh)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.sharding.is_fully_replicated
        assert len(a.sharding.device_set) == 8
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("cores", "batches", "variables", "devices"),
    [
        (1, (8,), {}, 1),
        (4, (16, 8), {}, 4),
        (6, (16, 8), {}, 4),
        (6, (16, 9), {}, 1),
        (64, (64,), {}, 8),
        (4, (8,), {"JAX_NUM_CPU_DEVICES": "2"}, 2),
        (4, (8,), {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
    ],
)
def test_split_cpu_makes_each_core_a_device_if_batches_can_be_divided(
    cores, batches, variables, devices
):
    program = (
        f"import os; os.sched_getaffinity = lambda _: range({cores}); "
        f"from esrgan_jax.sharding import split_cpu; split_cpu(*{batches}); "
        "import jax; print(jax.device_count())"
    )
    numbers = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")
    environment = {k: v for k, v in os.environ.items() if k not in numbers}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == devices
