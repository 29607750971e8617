"""Tests of both stages' compiled steps on eight devices: donation, shardings, collectives."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from configs import demo
from esrgan_jax import sharding
from esrgan_jax.imresize import margin
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.training import stages
from esrgan_jax.training.initial import restore_target
from esrgan_jax.training.train_state import Network, TrainState, moving_average

SMALL = {
    "generator.num_blocks": 2,
    "generator.num_features": 4,
    "generator.num_growth": 2,
    "discriminator.num_features": 2,
    "psnr.hr_patch": 16,
    "gan.hr_patch": 32,
}
COLLECTIVES = r" (all-\w[\w-]*|collective-\w[\w-]*|reduce-scatter|ragged-\w[\w-]*)\("


BOTH = pytest.mark.parametrize("stage", ["psnr", "gan"])
VGG = VGGFeatures(layers=("conv1_2",))


@functools.cache
def compiled(name, fsdp=1, changes=()):
    """Returns the state's shapes and the compiled step of a small network."""
    state, traced = lowered(name, fsdp=fsdp, changes=changes)
    return state, traced.compile()


@functools.cache
def small_stage(name, channels=3, fsdp=1, changes=()):
    """Returns the config, a stage of a small network with rolled blocks, and its mesh."""
    config = demo.get_config()
    config.update_from_flattened_dict(SMALL | {"mesh.fsdp": fsdp})
    config.generator.in_channels = config.generator.out_channels = channels
    with config.unlocked():
        config.gan.layer_weights = {"conv1_2": 1.0}
        for key, value in changes:
            section, _, key = key.rpartition(".")
            (config[section] if section else config)[key] = value
    mesh = sharding.create_mesh(fsdp=fsdp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_on_cpu", lambda mesh: False)
        patch.setattr(sharding, "SMALL", 0)  # also the arrays of small networks are split
        stage = stages.create_stage(config, name, VGG if name == "gan" else None, mesh)
    return config, stage, mesh


def lowered(name, channels=3, fsdp=1, changes=()):
    """Returns the state's shapes and the traced step of a small network."""
    config, stage, mesh = small_stage(name, channels, fsdp, changes)
    state = restore_target(config, stage)
    vgg_params = jax.eval_shape(VGG.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    side = config[name].hr_patch + 2 * margin(config.scale)
    count = 8 * config[name].accumulation
    batch = {"hr": jax.ShapeDtypeStruct((count, side, side, 3), jnp.uint8)}
    frozen = vgg_params if name == "gan" else {}
    return state, stage.step.lower(
        state,
        sharding.shapes(frozen, sharding.replicated(mesh)),
        sharding.shapes(batch, sharding.batched(mesh)),
    )


def test_both_stages_train_on_gray():
    for name in ("psnr", "gan"):
        state, traced = lowered(name, channels=1)
        assert state.generator.params["conv_first"]["kernel"].shape == (3, 3, 1, 4)
        assert state.generator.params["conv_last"]["kernel"].shape == (3, 3, 4, 1)
        after, metrics = traced.out_info
        assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
        assert {"l_g_pix", "grad_norm_g"} <= metrics.keys()


@pytest.mark.parametrize("fsdp", [1, pytest.param(4, marks=pytest.mark.slow)])
@BOTH
def test_the_whole_state_is_donated_and_stays_where_it_is(stage, fsdp):
    state, step = compiled(stage, fsdp)
    count = len(jax.tree.leaves(state))
    (aliases,) = re.findall(r"input_output_alias=\{(.*?\) )\}", step.as_text())
    pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}, (?:may|must)-alias\)", aliases)
    # The state is the first argument and the first result, so its leaf k has number k in both.
    assert pairs == [(str(k), str(k)) for k in range(count)]
    new, metrics = step.output_shardings
    for leaf, before in zip(jax.tree.leaves(new), jax.tree.leaves(state), strict=True):
        assert leaf.is_equivalent_to(before.sharding, before.ndim)
        assert leaf.is_fully_replicated or fsdp > 1
    for leaf in jax.tree.leaves((new, metrics)):
        assert len(leaf.device_set) == 8
    assert all(leaf.is_fully_replicated for leaf in metrics.values())
    assert {"lr_g"} <= metrics.keys()


def test_a_step_that_is_not_finite_changes_only_its_number():
    def step(state, _, batch):
        params = state.generator.params + batch
        updated = optax.ScaleByScheduleState(state.generator.opt_state.count + 1)
        network = state.generator.replace(params=params, opt_state=updated)
        new = state.replace(step=state.step + 1, generator=network, ema_params=params)
        return new, {"l_g_pix": jnp.sum(params), "grad_norm_g": jnp.float32(1)}

    mesh = sharding.create_mesh()
    run = stages._jitted(
        ConfigDict({"skip_nonfinite": 1, "precision": "default"}),
        step,
        {"lr_g": lambda n: n / 2},
        mesh,
        sharding.replicated(mesh),
    )
    network = Network(jnp.zeros(2), {}, optax.ScaleByScheduleState(jnp.int32(0)))
    state = TrainState(jnp.int32(0), network, None, jnp.zeros(2))
    for value, total, rate in (
        (1.0, 1.0, 0),
        (jnp.nan, 1.0, 0.5),
        (jnp.inf, 1.0, 0.5),
        (2, 3, 0.5),
    ):
        before = int(state.step)
        state, metrics = run(state, {}, jnp.float32(value))
        assert state.step == before + 1
        assert state.generator.params.tolist() == state.ema_params.tolist() == [total] * 2
        assert metrics["skipped"] == float(not jnp.isfinite(value))
        assert metrics["lr_g"] == rate  # the optimizer's, which counts updates


@BOTH
def test_all_reduce_is_the_only_collective(stage):
    """Devices exchange sums; no array is gathered or moved to another device."""
    _, step = compiled(stage)
    assert set(re.findall(COLLECTIVES, step.as_text())) == {"all-reduce"}


def gathered(text):
    """Returns the shapes of the arrays that a program gathers, and the names of the operations."""
    pattern = r"= \w+\[([\d,]*)\]\S* all-gather\(.*?op_name=\"([^\"]*)\""
    return [(tuple(map(int, s.split(","))), name) for s, name in re.findall(pattern, text)]


@pytest.mark.parametrize("stage", ["psnr", pytest.param("gan", marks=pytest.mark.slow)])
def test_split_parameters_are_gathered_and_gradients_of_the_generator_scattered(stage):
    """Of the state nothing but parameters is gathered, and each of them once."""
    state, step = compiled(stage, 4)
    text = step.as_text()
    found = re.findall(COLLECTIVES, text)
    assert set(found) == {"all-gather", "reduce-scatter", "all-reduce"}

    def split(network):
        leaves = jax.tree.leaves(network.params)
        return [leaf.shape for leaf in leaves if not leaf.sharding.is_fully_replicated]

    networks = [network for network in (state.generator, state.discriminator) if network]
    # XLA may gather another order of the dimensions.
    wanted = sorted(tuple(sorted(shape)) for network in networks for shape in split(network))
    assert sorted(tuple(sorted(shape)) for shape, _ in gathered(text)) == wanted
    assert found.count("reduce-scatter") == len(split(state.generator)) > 10


OTHER_GAN = (
    ("discriminator.name", "unet"),
    ("gan.relativistic", False),
    ("gan.ldl_weight", 1.0),
    ("gan.d_frozen", 1),
    ("gan.accumulation", 2),
    ("gan.clip_norm", 0.1),
    ("skip_nonfinite", 1),
)
SRRESNET = {"name": "srresnet", "num_features": 4, "num_blocks": 2, "initializer": "torch"}
SRRESNET |= {"in_channels": 3, "out_channels": 3, "normalize": True, "dtype": "float32"}
WITH_BATCH_NORM = (("generator", FrozenConfigDict(SRRESNET)),)
ONLY_MOMENTS = (("mesh.rules", (("opt_state|ema_params", "fsdp"),)),)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("psnr", ()),
        pytest.param("gan", (), marks=pytest.mark.slow),
        pytest.param("gan", OTHER_GAN, marks=pytest.mark.slow, id="unet"),
        pytest.param("psnr", WITH_BATCH_NORM, marks=pytest.mark.slow, id="srresnet"),
        pytest.param("psnr", ONLY_MOMENTS, marks=pytest.mark.slow, id="moments"),
    ],
)
def test_steps_with_split_and_with_replicated_parameters_are_equal(stage, changes, rng):
    (config, built, mesh), (_, split, split_mesh) = (
        small_stage(stage, fsdp=n, changes=changes) for n in (1, 4)
    )
    side = config[stage].hr_patch + 2 * margin(config.scale)
    shape = 8 * config[stage].accumulation, side, side, 3
    batches = rng.integers(0, 256, (3, *shape), np.uint8)
    frozen = {}
    if stage == "gan":
        frozen = VGG.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    state, other = (
        jax.jit(s.create, out_shardings=s.placement)(jax.random.key(1)) for s in (built, split)
    )
    for one, same in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        # Spectral norms are iterated, to unit vectors in float32.
        np.testing.assert_allclose(same, one, rtol=1e-6, atol=1e-7)
    for tree, whole in (
        (other.generator.params, changes == ONLY_MOMENTS),
        (other.generator.opt_state, False),
        (other.ema_params, False),
    ):
        assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)) == whole

    def run(step, state, hr, mesh):
        batch = sharding.put_batch({"hr": hr}, mesh)
        return step(state, sharding.replicate(frozen, mesh), batch)

    for hr in batches:
        # Both begin with the same state, since Adam makes steps of rounding where gradients are 0.
        other = jax.device_put(jax.device_get(state), split.placement)
        before = jax.device_get(state.ema_params)
        state, metrics = run(compiled(stage, 1, changes)[1], state, hr, mesh)
        other, split_metrics = run(compiled(stage, 4, changes)[1], other, hr, split_mesh)
        for name, value in metrics.items():
            rtol = 1e-5 if name.startswith("grad") else 1e-6
            np.testing.assert_allclose(split_metrics[name], value, rtol, 1e-6, err_msg=name)
        for network, split_network in (
            (state.generator, other.generator),
            (state.discriminator, other.discriminator),
        ):
            if network:
                moment, split_moment = (
                    optax.tree.get(n.opt_state, "mu") for n in (network, split_network)
                )
                norm = np.linalg.norm([np.linalg.norm(m) for m in jax.tree.leaves(moment)])
                near = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6 * norm)
                jax.tree.map(near, split_moment, moment)
                jax.tree.map(near, split_network.batch_stats, network.batch_stats)
        decay, params = config[stage].ema_decay, jax.device_get(other.generator.params)
        averaged = jax.jit(moving_average)(before, params, decay, int(other.step))
        near = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)
        jax.tree.map(near, other.ema_params, averaged)


@BOTH
def test_gradients_are_summed_after_the_loop_over_blocks(stage):
    text = compiled(stage)[1].as_text()
    computations = dict(re.findall(r"^%([\w.-]+) [^\n]*{\n(.*?)^}", text, re.M | re.S))
    loops = re.findall(r" while\(.*?body=%([\w.-]+)", text)
    assert len(loops) >= 2  # forwards and backwards
    lines = [line for name in loops for line in computations[name].splitlines()]
    found = [line for line in lines if re.search(COLLECTIVES, line)]
    assert not [line for line in found if stage == "psnr" or "RRDBNet" in line]
