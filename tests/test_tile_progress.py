"""Tests of progress within a tile: the network runs as several programs, one after the other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet
from esrgan_jax.upscaling.tile_step import upscale_step
from esrgan_jax.upscaling.upscaler import Upscaler

SMALL = {"num_features": 4, "num_growth": 4, "num_blocks": 3}


def network(seed=0, **fields):
    module = RRDBNet(**SMALL, **fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(seed)
    draw = lambda s: rng.normal(0, np.prod(s.shape[-4:-1]) ** -0.5, s.shape)  # noqa: E731
    return module, jax.tree.map(lambda s: draw(s).astype(np.float32), shapes)


def upscaled_with_progress(upscaler, image, **options):
    """Returns the result and, for each report, the share of its pixels that were done."""
    counts = []
    result = upscaler(image, progress=counts.append, **options)
    assert all(count > 0 for count in counts)
    assert sum(counts) == result.shape[0] * result.shape[1]
    return result, np.cumsum(counts) / sum(counts)


@pytest.fixture(scope="module")
def compiled():
    """Returns a list that grows with each program that JAX compiles, or loads from its cache."""
    events = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return events


@pytest.mark.parametrize(
    ("height", "bands", "options"),
    [
        (150, 4, {}),
        (12, 1, {"ensemble": True}),
        (12, 3, {"seamless": "wrap", "strength": 0.5, "color": "keep"}),
    ],
    ids=["rows", "ensemble", "blend"],
)
def test_parts_give_the_same_image_as_one_program(rng, compiled, height, bands, options):
    """Bit for bit; 150 rows are enlarged some at a time. No operation is a program of its own."""
    fields = {"initializer": "torch"}  # so that no other test has compiled it
    image = rng.integers(0, 256, (height, 12, bands), dtype=np.uint8)
    parts = Upscaler(*network(**fields), devices=jax.devices()[:1], **options)
    whole = Upscaler(*network(**fields), devices=jax.devices()[:1], **options)
    one_program = partial(upscale_step, **parts.runner.step.keywords)
    whole.runner.step = lambda *args, progress, **given: one_program(*args, **given)
    before = len(compiled)
    result, done = upscaled_with_progress(parts, image)
    assert len(compiled) - before == 5  # inputs and head, blocks, join, tail, outputs
    assert len(done) >= 4
    assert np.diff(done).max() < 0.3
    np.testing.assert_array_equal(result, whole(image))


@pytest.mark.parametrize(
    ("fields", "shape", "options"),
    [
        ({}, (9, 13, 3), {}),
        ({"scale": 2, "unshuffle": 2}, (31, 33, 3), {}),
        ({"scale": 1, "unshuffle": 4}, (30, 33, 3), {}),
        ({}, (40, 33, 4), {"scale": 2.5}),
        ({}, (40, 33, 3), {"size": (400, 0)}),
    ],
    ids=["small", "folding", "folding-x1", "smaller", "larger"],
)
def test_progress_is_reported_several_times_and_ends_at_the_total(rng, fields, shape, options):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    _, done = upscaled_with_progress(Upscaler(*network(**fields)), image, **options)
    assert len(done) >= 4
    assert done[0] < 0.5


def test_progress_is_reported_within_each_tile(rng):
    image = rng.integers(0, 256, (100, 90, 3), dtype=np.uint8)
    module, variables = network()
    one = Upscaler(module, variables, devices=jax.devices()[:1], tile=64, overlap=16)
    _, done = upscaled_with_progress(one, image)
    assert len(done) >= 4 * 4
    assert np.diff(done).max() < 0.15
    many = Upscaler(module, variables, tile=64, overlap=16)  # one tile on each device
    _, done = upscaled_with_progress(many, image)
    assert len(done) >= 4


def test_progress_of_chained_networks_is_weighted_by_their_work(rng):
    """The second network has the same work per pixel and four times as many pixels."""
    image = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    one_device = {"devices": jax.devices()[:1]}
    second = Upscaler(*network(scale=2), **one_device)
    first = Upscaler(*network(scale=2), then=second, **one_device)
    _, done = upscaled_with_progress(first, image)
    assert len(done) >= 8
    assert np.abs(done - 1 / 5).min() < 0.01
    same = Upscaler(*network(scale=1), then=second, **one_device)
    _, done = upscaled_with_progress(same, image)
    assert (done < 0.5).sum() >= 4


def test_a_network_without_parts_reports_whole_tiles(rng):
    module = SRResNet(num_features=4, num_blocks=1)
    variables = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    image = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    result, done = upscaled_with_progress(Upscaler(module, variables), image)
    assert result.shape == (80, 80, 3)
    assert list(done) == [1]


def test_multiplications_per_pixel():
    """Counted by hand: 3 dense blocks of 5 convolutions; up and up by kernels of 2x2, hr, last."""
    module = RRDBNet(num_features=64, num_growth=32)
    params = 23 * 3 * 9 * (32 * 64 + 32 * 96 + 32 * 128 + 32 * 160 + 64 * 192)
    tail = 64 * (4 * (64 * 4 + 64 * 16) + 9 * (64 * 16 + 3 * 16))
    assert (23 * module.split.block_macs, module.split.tail_macs) == (params, tail)
