"""Tests of optimisers, schedules and the train state against their formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import x4
from esrgan_jax.models.conv import Conv
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.sharding import create_mesh
from esrgan_jax.training.stages import gan_stage, psnr_stage
from esrgan_jax.training.train_state import (
    Network,
    TrainState,
    cosine_schedule,
    create_network,
    create_optimizer,
    moving_average,
    multistep_schedule,
    warmed_up,
)

# The relative error of an update: that of sqrt(1 - 0.999) in float32, at most 6e-8 / 1e-3 / 2.
ROUNDING = 3e-5


def adam(params, gradients, rate, b1, b2, clip_norm=0.0):
    """Returns the parameters after each step in float64 (arXiv 1412.6980, algorithm 1)."""
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
def test_adam_matches_its_formula(b1, b2, clip_norm, rng):
    params = rng.normal(size=7)
    # Their norms are below, near and above the limit.
    gradients = [rng.normal(size=7) * size for size in (5.0, 0.1, 1e-6, 3.0)]
    optimizer = create_optimizer(
        optax.constant_schedule(0.01), b1=b1, b2=b2, clip_norm=clip_norm
    )  # fmt: skip
    # Two leaves, because the norm is over the whole tree.
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


def adamw(params, gradients, rate, decay):
    """Returns the last parameters in float64 (arXiv 1711.05101, algorithm 2)."""
    for last in range(1, len(gradients) + 1):
        by_adam = adam(np.zeros_like(params), gradients[:last], rate, 0.9, 0.99)
        before = by_adam[-2] if last > 1 else 0
        params = params * (1 - rate * decay) + by_adam[-1] - before
    return params


def test_adamw_matches_its_formula(rng):
    params, gradients = rng.normal(size=3), list(rng.normal(size=(4, 3)))
    rate = optax.constant_schedule(0.1)
    optimizer = create_optimizer(rate, optimizer="adamw", b2=0.99, weight_decay=0.3)
    network = Network(jnp.float32(params), {}, optimizer.init(jnp.float32(params)))
    for gradient in gradients:
        network = network.updated(jnp.float32(gradient), {}, optimizer)
    expected = adamw(params, gradients, 0.1, 0.3)
    np.testing.assert_allclose(network.params, expected, rtol=1e-5, atol=4 * 0.1 * ROUNDING)


def adan(params, gradients, rate, b1, b2, b3, decay):
    """Returns the last parameters in float64, as github.com/sail-sg/Adan with no_prox=True."""
    mean = change = square = 0.0
    last = gradients[0]
    for step, gradient in enumerate(gradients, 1):
        difference, last = gradient - last, gradient
        mean = b1 * mean + (1 - b1) * gradient
        change = b2 * change + (1 - b2) * difference
        square = b3 * square + (1 - b3) * (gradient + b2 * difference) ** 2
        root = np.sqrt(square) / np.sqrt(1 - b3**step) + 1e-8
        params = params * (1 - rate * decay)
        params = params - rate / (1 - b1**step) * mean / root
        params = params - rate * b2 / (1 - b2**step) * change / root
    return params


@pytest.mark.parametrize(("b1", "b2", "b3"), [(0.98, 0.92, 0.99), (0.9, 0.5, 0.8)])
def test_adan_matches_its_formula(b1, b2, b3, rng):
    params, gradients = rng.normal(size=3), list(rng.normal(size=(6, 3)))
    rate = optax.constant_schedule(0.1)
    optimizer = create_optimizer(rate, optimizer="adan", b1=b1, b2=b2, b3=b3, weight_decay=0.3)
    network = Network(jnp.float32(params), {}, optimizer.init(jnp.float32(params)))
    for gradient in gradients:
        network = network.updated(jnp.float32(gradient), {}, optimizer)
    assert network.updates == 6
    expected = adan(params, gradients, 0.1, b1, b2, b3, 0.3)
    np.testing.assert_allclose(network.params, expected, rtol=1e-5, atol=6 * 0.1 * ROUNDING)


def test_warm_up_rises_and_begins_when_a_network_is_no_longer_frozen():
    schedule = multistep_schedule(1.0, (6,))
    rates = [float(warmed_up(schedule, 4)(step)) for step in (0, 1, 3, 5, 6)]
    assert rates == [0.25, 0.5, 1, 1, 0.5]
    assert [float(warmed_up(schedule, 1, 2)(step)) for step in (0, 1, 2, 6)] == [0, 0, 1, 0.5]
    assert [float(warmed_up(schedule, 2, 2)(step)) for step in (1, 2, 3, 6)] == [0, 0.5, 1, 0.5]


@pytest.mark.parametrize(
    ("scaling", "rates"),
    [("none", (1e-4, 4e-4, 2e-4)), ("sqrt", (2e-4, 8e-4, 4e-4)), ("linear", (4e-4, 16e-4, 8e-4))],
)
def test_learning_rates_grow_with_the_batch_by_the_chosen_rule(scaling, rates):
    config, mesh = x4.get_config(), create_mesh()
    config.psnr.update(learning_rate=4e-4, milestones=(6,), warmup=4, lr_scaling=scaling)
    config.gan.update(learning_rate=4e-4, d_learning_rate=8e-4, schedule="cosine", minimum=1e-4)
    config.gan.update(periods=(8,), lr_scaling=scaling)
    for stage in (config.psnr, config.gan):
        stage.batch_size = 4 * stage.lr_batch_size
    rate = psnr_stage(config, mesh).schedules["lr_g"]
    assert [float(rate(step)) for step in (0, 3, 6)] == pytest.approx(rates)
    start, _, _ = rates
    for name, top in (("lr_g", 4), ("lr_d", 8)):
        rate = gan_stage(config, None, mesh).schedules[name]
        expected = [top * start, (top + 1) / 2 * start, start]
        assert [float(rate(step)) for step in (0, 4, 8)] == pytest.approx(expected)


def test_default_betas_are_those_of_the_paper(rng):
    params, gradients = rng.normal(size=3), list(rng.normal(size=(3, 3)))
    optimizer = create_optimizer(optax.constant_schedule(0.1))
    network = Network(jnp.float32(params), {}, optimizer.init(jnp.float32(params)))
    for gradient in gradients:
        network = network.updated(jnp.float32(gradient), {}, optimizer)
    expected = adam(params, gradients, 0.1, 0.9, 0.999)[-1]
    np.testing.assert_allclose(network.params, expected, rtol=1e-6, atol=3 * 0.1 * ROUNDING)


def test_multistep_schedule_halves_the_rate_at_milestones():
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


def test_the_first_halved_update_follows_the_milestone():
    """With a constant gradient each update of Adam equals the learning rate."""
    optimizer = create_optimizer(multistep_schedule(1e-2, (2, 4)))
    params, gradient = jnp.zeros(1), jnp.ones(1)
    network = Network(params, {}, optimizer.init(params))
    path = [0.0]
    for _ in range(6):
        network = network.updated(gradient, {}, optimizer)
        path.append(float(network.params[0]))
    expected = -np.array([1e-2, 1e-2, 5e-3, 5e-3, 2.5e-3, 2.5e-3])
    np.testing.assert_allclose(np.diff(path), expected, rtol=ROUNDING)


def test_cosine_schedule_restarts_after_each_period():
    top, bottom, periods = 2e-4, 1e-7, (4, 4, 8)
    schedule = cosine_schedule(top, periods, bottom)
    starts = (0, 4, 8)
    for start, period in zip(starts, periods, strict=True):
        for step in range(1, period + 1):  # the last step of a period has the minimum
            expected = bottom + (top - bottom) * (1 + np.cos(np.pi * step / period)) / 2
            np.testing.assert_allclose(schedule(start + step), expected, rtol=1e-5)
    np.testing.assert_allclose(schedule(0), top, rtol=1e-6)
    np.testing.assert_allclose(schedule(16), bottom, rtol=1e-5)  # and after the last period
    np.testing.assert_allclose(schedule(1000), bottom, rtol=1e-5)


def test_a_single_cosine_period_ends_at_zero():
    schedule = cosine_schedule(1.0, (10,))
    np.testing.assert_allclose(schedule(np.array([0, 5, 10])), [1, 0.5, 0], atol=1e-7)


@pytest.mark.parametrize(
    ("step", "decay"), [(1, 2 / 11), (90, 0.91), (8990, 0.999), (10**6, 0.999)]
)
def test_moving_average_has_a_smaller_decay_at_first(rng, step, decay):
    old, new = (jnp.float32(rng.normal(size=(3, 4))) for _ in range(2))
    average: Any = moving_average({"a": old}, {"a": new}, 0.999, jnp.int32(step))
    expected = decay * np.asarray(old, np.float64) + (1 - decay) * np.asarray(new, np.float64)
    np.testing.assert_allclose(average["a"], expected, rtol=1e-4, atol=1e-6)
    assert average["a"].dtype == jnp.float32
    assert moving_average(None, {"a": new}, 0.999, step) is None


def test_a_moving_average_soon_forgets_its_initial_value():
    """Otherwise the average after 1000 steps is mostly random weights: 11.8 dB in a real run."""
    average: Any = jnp.float32(1)
    for step in range(1, 1001):
        average = moving_average(average, jnp.float32(0), 0.999, step)
    assert average < 1e-15


def test_create_network_initialises_parameters_and_statistics():
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


def test_an_update_replaces_the_statistics():
    optimizer = create_optimizer(optax.constant_schedule(1.0))
    params = {"a": jnp.zeros(2)}
    network = Network(params, {"mean": jnp.zeros(1)}, optimizer.init(params))
    after = network.updated({"a": jnp.ones(2)}, {"mean": jnp.ones(1)}, optimizer)
    assert after.batch_stats["mean"] == 1
    np.testing.assert_array_equal(network.params["a"], 0)  # the old network is unchanged
    np.testing.assert_allclose(after.params["a"], -1, rtol=ROUNDING)


@pytest.mark.parametrize("averaged", [False, True])
def test_generator_variables_are_averaged_ones_if_available(averaged):
    network = Network({"a": jnp.zeros(2)}, {"mean": jnp.ones(1)}, ())
    state = TrainState(jnp.int32(3), network, None, {"a": jnp.ones(2)} if averaged else None)
    variables = state.generator_variables()
    assert set(variables) == {"params", "batch_stats"}
    np.testing.assert_array_equal(variables["params"]["a"], float(averaged))
    assert variables["batch_stats"]["mean"] == 1


def test_absent_parts_of_the_state_have_no_leaves():
    network = Network({"a": jnp.zeros(2)}, {}, ())
    state = TrainState(jnp.int32(0), network)
    assert len(jax.tree.leaves(state)) == 2
    doubled = jax.jit(lambda s: jax.tree.map(lambda x: x + x, s))(state.replace(step=jnp.int32(4)))
    assert isinstance(doubled, TrainState)
    assert doubled.step == 8
    assert doubled.discriminator is None
