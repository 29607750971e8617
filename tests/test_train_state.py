"""Optimisers, schedules and the train state against the formulas, written out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from esrgan_jax.models.conv import Conv
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.training.train_state import (
    Network,
    TrainState,
    cosine_schedule,
    create_network,
    create_optimizer,
    moving_average,
    multistep_schedule,
)

# Of one update, relative: 1 - 0.999 in float32 is off by up to 6e-8 / 1e-3, and its root is taken.
ROUNDING = 3e-5


def adam(params, gradients, rate, b1, b2, clip_norm=0.0):
    """The parameters after each step in float64 (arXiv 1412.6980, algorithm 1)."""
    first, second, path = np.zeros_like(params), np.zeros_like(params), []
    for step, gradient in enumerate(gradients, 1):
        norm = np.sqrt(np.sum(gradient**2))
        if 0 < clip_norm < norm:
            gradient = gradient * clip_norm / norm
        first = b1 * first + (1 - b1) * gradient
        second = b2 * second + (1 - b2) * gradient**2
        corrected = first / (1 - b1**step), np.sqrt(second / (1 - b2**step))
        params = params - rate * corrected[0] / (corrected[1] + 1e-8)
        path.append(params)
    return path


@pytest.mark.parametrize(
    ("b1", "b2", "clip_norm"), [(0.9, 0.999, 0.0), (0.9, 0.99, 0.0), (0.5, 0.999, 2.0)]
)
def test_adam_by_hand(b1, b2, clip_norm, rng):
    params = rng.normal(size=7)
    # of norms far below, at and above the limit
    gradients = [rng.normal(size=7) * size for size in (5.0, 0.1, 1e-6, 3.0)]
    optimizer = create_optimizer(
        optax.constant_schedule(0.01), b1=b1, b2=b2, clip_norm=clip_norm
    )  # fmt: skip
    # two leaves, so that the norm is over the whole tree
    tree = {"a": jnp.float32(params[:3]), "b": jnp.float32(params[3:])}
    network = Network(params=tree, batch_stats={}, opt_state=optimizer.init(tree))
    for gradient, expected in zip(
        gradients, adam(params, gradients, 0.01, b1, b2, clip_norm), strict=True
    ):
        halves = {"a": jnp.float32(gradient[:3]), "b": jnp.float32(gradient[3:])}
        network = network.updated(halves, {}, optimizer)
        got = np.concatenate([network.params["a"], network.params["b"]])
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=4 * 0.01 * ROUNDING)
    clipped, unclipped = (
        adam(params, gradients, 0.01, b1, b2, limit)[-1] for limit in (clip_norm, 0)
    )
    assert (np.abs(clipped - unclipped).max() > 1e-3) == (clip_norm > 0)


def test_default_betas_are_the_papers(rng):
    params, gradients = rng.normal(size=3), list(rng.normal(size=(3, 3)))
    optimizer = create_optimizer(optax.constant_schedule(0.1))
    network = Network(jnp.float32(params), {}, optimizer.init(jnp.float32(params)))
    for gradient in gradients:
        network = network.updated(jnp.float32(gradient), {}, optimizer)
    expected = adam(params, gradients, 0.1, 0.9, 0.999)[-1]
    np.testing.assert_allclose(network.params, expected, rtol=1e-6, atol=3 * 0.1 * ROUNDING)


def test_multistep_halves_at_the_milestones():
    schedule = multistep_schedule(2e-4, (200_000, 400_000, 600_000))
    for step, rate in {
        0: 2e-4,
        199_999: 2e-4,
        200_000: 1e-4,
        399_999: 1e-4,
        400_000: 5e-5,
        999_999: 2.5e-5,
    }.items():
        np.testing.assert_allclose(schedule(step), rate, rtol=1e-6)
    np.testing.assert_allclose(multistep_schedule(1.0, (2,), factor=0.1)(2), 0.1, rtol=1e-6)
    np.testing.assert_allclose(multistep_schedule(1.0, ())(10**6), 1.0)


def test_the_update_behind_a_milestone_is_the_first_halved_one():
    """Under a constant gradient each update of Adam is the learning rate itself."""
    optimizer = create_optimizer(multistep_schedule(1e-2, (2, 4)))
    params, gradient = jnp.zeros(1), jnp.ones(1)
    network = Network(params, {}, optimizer.init(params))
    path = [0.0]
    for _ in range(6):
        network = network.updated(gradient, {}, optimizer)
        path.append(float(network.params[0]))
    expected = -np.array([1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3, 2.5e-3])
    np.testing.assert_allclose(np.diff(path), expected, rtol=ROUNDING)


def test_cosine_restarts():
    top, bottom, periods = 2e-4, 1e-7, (4, 4, 8)
    schedule = cosine_schedule(top, periods, bottom)
    starts = (0, 4, 8)
    for start, period in zip(starts, periods, strict=True):
        for step in range(1, period + 1):  # the last step of a period has the minimum
            expected = bottom + (top - bottom) * (1 + np.cos(np.pi * step / period)) / 2
            np.testing.assert_allclose(schedule(start + step), expected, rtol=1e-5)
    np.testing.assert_allclose(schedule(0), top, rtol=1e-6)
    np.testing.assert_allclose(schedule(16), bottom, rtol=1e-5)  # and stays there
    np.testing.assert_allclose(schedule(1000), bottom, rtol=1e-5)


def test_a_single_cosine_ends_at_zero():
    schedule = cosine_schedule(1.0, (10,))
    np.testing.assert_allclose(schedule(np.array([0, 5, 10])), [1, 0.5, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("step", "decay"), [(1, 2 / 11), (90, 0.91), (8990, 0.999), (10**6, 0.999)]
)
def test_moving_average(rng, step, decay):
    old, new = (jnp.float32(rng.normal(size=(3, 4))) for _ in range(2))
    average: Any = moving_average({"a": old}, {"a": new}, 0.999, jnp.int32(step))
    expected = decay * np.asarray(old, np.float64) + (1 - decay) * np.asarray(new, np.float64)
    np.testing.assert_allclose(average["a"], expected, rtol=1e-4, atol=1e-6)
    assert average["a"].dtype == jnp.float32
    assert moving_average(None, {"a": new}, 0.999, step) is None


def test_a_young_average_has_forgotten_where_it_began():
    """The first real training scored 11.8 dB after 1000 steps, most of it random weights."""
    average: Any = jnp.float32(1)
    for step in range(1, 1001):
        average = moving_average(average, jnp.float32(0), 0.999, step)
    assert average < 1e-15


def test_new_networks():
    optimizer = create_optimizer(optax.constant_schedule(1.0))
    plain = create_network(Conv(4), jax.random.key(0), jnp.zeros((1, 4, 4, 3)), optimizer)
    assert set(plain.params) == {"kernel", "bias"}
    assert plain.batch_stats == {}
    assert jax.tree.structure(plain.opt_state) == jax.tree.structure(optimizer.init(plain.params))
    other = create_network(Conv(4), jax.random.key(1), jnp.zeros((1, 4, 4, 3)), optimizer)
    assert not np.array_equal(plain.params["kernel"], other.params["kernel"])

    def normalised(key):
        return create_network(Discriminator(2), key, jnp.zeros((1, 32, 32, 3)), optimizer)

    stats = jax.eval_shape(normalised, jax.random.key(0)).batch_stats
    assert set(stats["bn0_1"]) == {"mean", "var"}


def test_an_update_takes_the_new_statistics():
    optimizer = create_optimizer(optax.constant_schedule(1.0))
    params = {"a": jnp.zeros(2)}
    network = Network(params, {"mean": jnp.zeros(1)}, optimizer.init(params))
    after = network.updated({"a": jnp.ones(2)}, {"mean": jnp.ones(1)}, optimizer)
    assert after.batch_stats["mean"] == 1
    np.testing.assert_array_equal(network.params["a"], 0)  # pure: what was stays
    np.testing.assert_allclose(after.params["a"], -1, rtol=ROUNDING)


@pytest.mark.parametrize("averaged", [False, True])
def test_generator_variables_are_the_averaged_ones_where_there_are_any(averaged):
    network = Network({"a": jnp.zeros(2)}, {"mean": jnp.ones(1)}, ())
    state = TrainState(jnp.int32(3), network, None, {"a": jnp.ones(2)} if averaged else None)
    variables = state.generator_variables()
    assert set(variables) == {"params", "batch_stats"}
    np.testing.assert_array_equal(variables["params"]["a"], float(averaged))
    assert variables["batch_stats"]["mean"] == 1


def test_the_state_is_a_pytree_whose_absent_parts_have_no_leaves():
    network = Network({"a": jnp.zeros(2)}, {}, ())
    state = TrainState(jnp.int32(0), network)
    assert len(jax.tree.leaves(state)) == 2
    doubled = jax.jit(lambda s: jax.tree.map(lambda x: x + x, s))(state.replace(step=jnp.int32(4)))
    assert isinstance(doubled, TrainState)
    assert doubled.step == 8
    assert doubled.discriminator is None
