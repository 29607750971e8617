"""Tests of both stages' compiled steps on eight devices: donation, shardings, collectives."""

import functools
import re

import jax
import jax.numpy as jnp
import optax
import pytest
from ml_collections import ConfigDict

from configs import demo
from esrgan_jax import sharding
from esrgan_jax.imresize import margin
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.training import stages
from esrgan_jax.training.train_state import Network, TrainState

SMALL = {
    "generator.num_blocks": 2,
    "generator.num_features": 4,
    "generator.num_growth": 2,
    "discriminator.num_features": 2,
    "psnr.hr_patch": 16,
    "gan.hr_patch": 32,
}
COLLECTIVES = r" (all-\w[\w-]*|collective-\w[\w-]*|reduce-scatter|ragged-\w[\w-]*)\("


@functools.cache
def compiled(name):
    """Returns the state's shapes and the compiled step of a small network."""
    state, traced = lowered(name)
    return state, traced.compile()


def lowered(name, channels=3):
    """Returns the state's shapes and the traced step of a small network with rolled blocks."""
    config = demo.get_config()
    config.update_from_flattened_dict(SMALL)
    config.generator.in_channels = config.generator.out_channels = channels
    with config.unlocked():
        config.gan.layer_weights = {"conv1_2": 1.0}
    vgg, mesh = VGGFeatures(layers=("conv1_2",)), sharding.create_mesh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_on_cpu", lambda mesh: False)
        stage = stages.create_stage(config, name, vgg if name == "gan" else None, mesh)

    def shapes(tree, placement):
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement), tree
        )

    replicated = sharding.replicated(mesh)
    state = shapes(jax.eval_shape(stage.create, jax.random.key(0)), replicated)
    vgg_params = jax.eval_shape(vgg.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    side = config[name].hr_patch + 2 * margin(config.scale)
    batch = {"hr": jax.ShapeDtypeStruct((8, side, side, 3), jnp.uint8)}
    frozen = shapes(vgg_params, replicated) if name == "gan" else {}
    return state, stage.step.lower(state, frozen, shapes(batch, sharding.batched(mesh)))


def test_both_stages_train_on_gray():
    for name in ("psnr", "gan"):
        state, traced = lowered(name, channels=1)
        assert state.generator.params["conv_first"]["kernel"].shape == (3, 3, 1, 4)
        assert state.generator.params["conv_last"]["kernel"].shape == (3, 3, 4, 1)
        after, metrics = traced.out_info
        assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state)
        assert {"l_g_pix", "grad_norm_g"} <= metrics.keys()


@pytest.mark.parametrize("stage", ["psnr", "gan"])
def test_the_whole_state_is_donated_and_replicated(stage):
    state, step = compiled(stage)
    count = len(jax.tree.leaves(state))
    (aliases,) = re.findall(r"input_output_alias=\{(.*?\) )\}", step.as_text())
    pairs = re.findall(r"\{(\d+)\}: \((\d+), \{\}, (?:may|must)-alias\)", aliases)
    # The state is the first argument and the first result, so its leaf k has number k in both.
    assert pairs == [(str(k), str(k)) for k in range(count)]
    new, metrics = step.output_shardings
    for leaf in jax.tree.leaves((new, metrics)):
        assert leaf.is_fully_replicated
        assert len(leaf.device_set) == 8
    assert {"lr_g"} <= metrics.keys()


def test_a_step_that_is_not_finite_changes_only_its_number():
    def step(state, _, batch):
        params = state.generator.params + batch
        updated = optax.ScaleByScheduleState(state.generator.opt_state.count + 1)
        network = state.generator.replace(params=params, opt_state=updated)
        new = state.replace(step=state.step + 1, generator=network, ema_params=params)
        return new, {"l_g_pix": jnp.sum(params), "grad_norm_g": jnp.float32(1)}

    mesh = sharding.create_mesh()
    run = stages._jitted(ConfigDict({"skip_nonfinite": 1}), step, {"lr_g": lambda n: n / 2}, mesh)
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


@pytest.mark.parametrize("stage", ["psnr", "gan"])
def test_all_reduce_is_the_only_collective(stage):
    """Devices exchange sums; no array is gathered or moved to another device."""
    _, step = compiled(stage)
    assert set(re.findall(COLLECTIVES, step.as_text())) == {"all-reduce"}


@pytest.mark.parametrize("stage", ["psnr", "gan"])
def test_gradients_are_summed_after_the_loop_over_blocks(stage):
    text = compiled(stage)[1].as_text()
    computations = dict(re.findall(r"^%([\w.-]+) [^\n]*{\n(.*?)^}", text, re.M | re.S))
    loops = re.findall(r" while\(.*?body=%([\w.-]+)", text)
    assert len(loops) >= 2  # forwards and backwards
    lines = [line for name in loops for line in computations[name].splitlines()]
    found = [line for line in lines if re.search(COLLECTIVES, line)]
    assert not [line for line in found if stage == "psnr" or "RRDBNet" in line]
