"""Tiles through the device: batches over images, what memory cannot hold, what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.models.generator import Generator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscaling import network, tile_runner
from esrgan_jax.upscaling.tile import Tile
from esrgan_jax.upscaling.tile_runner import TileRunner
from esrgan_jax.upscaling.tiles import Span
from esrgan_jax.upscaling.upscaler import Upscaler

MODULE = RRDBNet(num_features=8, num_growth=4, num_blocks=1, scale=2)


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(MODULE.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    rng = np.random.default_rng(0)
    draw = lambda s: rng.normal(0, max(np.prod(s.shape[-4:-1]), 25) ** -0.5, s.shape)  # noqa: E731
    return jax.tree.map(lambda s: draw(s).astype(np.float32), shapes)


def runner(variables, devices=1, **options):
    options = {"spatial": False, "overlap": 38, **options}
    return TileRunner(MODULE, variables, devices=jax.devices()[:devices], **options)


def tile_of(lr, height, width):
    return Tile(lr, (height, width), "uint8", Span(0, height, 0, height), Span(0, width, 0, width))


def tiles(rng, *shapes):
    made = []
    for height, width in shapes:
        lr = np.zeros((32, 48, 3), np.uint8)
        lr[:height, :width] = rng.integers(0, 256, (height, width, 3))
        made.append(tile_of(lr, height, width))
    return made


def alone(variables, tile):
    height, width = tile.size
    lr = (tile.lr[:height, :width] / 255).astype(np.float32)
    sr = np.asarray(jax.jit(MODULE.apply)(variables, lr[None]))[0]
    return np.rint(sr.clip(0, 1) * 255)


def test_everything_comes_out_in_order_with_its_result(variables, rng):
    """Tiles of two dtypes, so of two batches, and one that has failed already in between."""
    given = tiles(rng, (32, 48), (10, 20), (32, 7))
    deep = tile_of(given[0].lr.astype(np.uint16) * 257, 32, 48)
    failed = tile_of(given[0].lr[:0], 0, 0)
    failed.error = RunError("cut off")
    items = [given[0], failed, deep, given[1], given[2]]
    results = list(runner(variables, devices=2).run(iter(items)))
    assert failed.result is None
    assert results == items
    for tile in given:
        height, width = tile.size
        difference = tile.result[: 2 * height, : 2 * width] - alone(variables, tile)
        assert np.abs(difference).max() <= 1
        assert difference.any() < 0.01 * difference.size
    np.testing.assert_array_equal(deep.result, given[0].result)


def test_full_tiles_go_without_masks_until_others_need_them(variables, rng):
    """Since a second program for tiles of the same shape takes longer to compile than it saves."""
    made, borders = runner(variables), []
    step = made.step

    def seen(*arrays, border, **options):
        borders.append(border)
        return step(*arrays, border=border, **options)

    made.step = seen
    given = tiles(rng, (32, 48), (32, 7), (32, 48))
    given[2].lr[:] = given[0].lr
    results = [tile.result for tile in made.run(iter(given))]
    assert borders == ["full", "zero", "zero"]
    assert_same_but_for_rounding(results[0], alone(variables, given[0]))
    assert_same_but_for_rounding(results[2], results[0])


def test_little_is_read_ahead(variables, rng):
    """However many tiles there are, a few are alive: an image may be larger than memory."""
    alive, most = 0, 0

    def source():
        nonlocal alive, most
        for _ in range(40):
            alive, most = alive + 1, max(most, alive + 1)
            yield from tiles(rng, (32, 48))

    for _ in runner(variables).run(source()):
        alive -= 1
    assert most <= 6


def test_tiles_of_a_rare_shape_hold_nobody_up(variables, rng):
    read = []

    def source():
        for index in range(100):
            read.append(index)
            (tile,) = tiles(rng, (32, 48))
            if index == 0:
                tile.lr = tile.lr[:, :32]
                tile.size = (32, 32)
            yield tile

    next(runner(variables, devices=8).run(source()))
    assert len(read) < 60


class Greedy(TileRunner):
    """A device that holds batches of so many pixels."""

    room = 0
    launched: list

    def _launch(self, tiles, module=None):
        pixels = len(tiles) * tiles[0].lr.shape[0] * tiles[0].lr.shape[1]
        if pixels > self.room:
            return MemoryError("RESOURCE_EXHAUSTED: Out of memory")
        self.launched.append(pixels)
        return super()._launch(tiles, module)


@pytest.mark.parametrize(
    ("room", "border"),
    [
        (40 * 40, "zero"),
        pytest.param(48 * 48, "mirror", marks=pytest.mark.slow),
        pytest.param(48 * 48, "wrap", marks=pytest.mark.slow),
    ],
)
def test_out_of_memory_halves_the_tile_and_goes_on(variables, rng, monkeypatch, room, border):
    image = rng.integers(0, 256, (100, 150, 3), dtype=np.uint8)
    options = {"devices": jax.devices()[:1], "seamless": None if border == "zero" else border}
    expected = Upscaler(MODULE, variables, **options)(image)
    monkeypatch.setattr("esrgan_jax.upscaling.upscaler.TileRunner", Greedy)
    upscaler = Upscaler(MODULE, variables, tile=96, **options)
    upscaler.runner.room, upscaler.runner.launched = room, []
    result = upscaler(image)
    # Tiles as small as these lack surroundings, so the bound is that of their overlap.
    difference = np.abs(result.astype(int) - expected)
    assert np.quantile(difference, 0.99) <= 1
    assert max(upscaler.runner.launched) <= room
    # The next image begins with tiles that fit.
    failures = []
    monkeypatch.setattr(Greedy, "_shrink", lambda self, *_: failures.append(1))
    upscaler(image)
    assert not failures


def test_smaller_tiles_keep_an_overlap_that_was_asked_for(variables, rng, monkeypatch):
    """With `exact`, results equal the untiled one, or there is none."""
    image = rng.integers(0, 256, (100, 150, 3), dtype=np.uint8)
    devices = jax.devices()[:1]
    expected = Upscaler(MODULE, variables, devices=devices)(image)
    monkeypatch.setattr("esrgan_jax.upscaling.upscaler.TileRunner", Greedy)
    upscaler = Upscaler(MODULE, variables, tile=96, exact=True, devices=devices)
    assert upscaler.overlap == 38
    upscaler.runner.room, upscaler.runner.launched = 48 * 48, []
    assert np.abs(upscaler(image).astype(int) - expected).max() <= 1
    upscaler = Upscaler(MODULE, variables, tile=96, exact=True, devices=devices)
    upscaler.runner.room, upscaler.runner.launched = 36 * 36, []
    with pytest.raises(
        RunError, match="memory does not suffice for tiles of 48 px, which share 38"
    ):
        upscaler(image)


def test_a_batch_is_halved_before_its_tiles_are(variables, rng):
    """Of each of two devices: from eight tiles to two, where it stays."""
    greedy = Greedy(MODULE, variables, devices=jax.devices()[:2], spatial=False, overlap=38)
    greedy.room, greedy.launched = 4 * 32 * 48, []
    given = tiles(rng, *[(32, 48)] * 20)
    greedy.batch_sizes[tile_runner._key(given[0])] = 8
    for tile in greedy.run(given):
        assert np.abs(tile.result - alone(variables, tile)).max() <= 1
    assert greedy.launched == [4 * 32 * 48] * 5
    assert greedy.largest_batch == 2
    assert greedy.largest_side is None


def test_memory_that_suffices_for_nothing_is_said(variables, rng):
    greedy = Greedy(MODULE, variables, devices=jax.devices()[:1], spatial=False, overlap=38)
    greedy.room, greedy.launched = 0, []
    (tile,) = greedy.run(tiles(rng, (32, 48)))
    assert isinstance(tile.error, RunError)
    assert "memory does not suffice for tiles of" in str(tile.error)


def test_an_error_of_the_device_that_is_not_of_memory_comes_out(variables, rng, monkeypatch):
    def broken(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: a kernel failed")

    broken_runner = runner(variables)
    monkeypatch.setattr(broken_runner, "step", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a kernel failed"):
        list(broken_runner.run(tiles(rng, (32, 48))))


class Narrow(nn.Module, Generator):
    """Overflows in bfloat16 alone, on images that are white in a corner."""

    scale: int = 1
    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    def __call__(self, lr):
        lost = jnp.where(lr[:, :1, :1] == 1, jnp.inf, 0.0)
        return lr + (lost if self.dtype == jnp.bfloat16 else 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tiles_that_are_not_finite_are_done_again_in_float32(rng, dtype):
    image = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
    image[0, 0] = 255
    result = Upscaler(Narrow(), {}, dtype=dtype)(image)
    np.testing.assert_array_equal(result, image)


def test_one_image_that_is_not_finite_does_not_touch_the_others(rng):
    class Fragile(Narrow):
        def __call__(self, lr):
            return lr + jnp.where(lr[:, :1, :1] == 1, jnp.nan, 0.0)

    images = [rng.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(3)]
    images[1][0, 0] = 255
    upscaler = Upscaler(Fragile(), {})
    with pytest.raises(RunError, match="not finite; its weights are damaged"):
        upscaler(images)
    np.testing.assert_array_equal(upscaler([images[0], images[2]]), [images[0], images[2]])


def test_a_note_says_when_tiles_share_less_than_usual(variables):
    small = Upscaler(MODULE, variables, tile=48)
    assert small.seams(48, 48) is None  # not cut
    usual = "tiles of 48 px share 24 px instead of 38, so seams may be visible; tiles of 76 px or"
    assert small.seams(20, 49).startswith(usual)
    assert Upscaler(MODULE, variables, tile=80).seams(200, 200) is None
    assert Upscaler(MODULE, variables, tile=48, overlap=8).seams(200, 200) is None  # as asked for
    assert Upscaler(MODULE, variables, tile=80, then=small).seams(20, 25).startswith(usual)


def test_exact_needs_a_receptive_field():
    with pytest.raises(InputError, match="exact needs a network with a receptive_field"):
        Upscaler(Narrow(), {}, exact=True)


def test_memory_that_runs_out_in_float32_does_not_touch_other_images(rng, monkeypatch):
    images = [rng.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(2)]
    images[0][0, 0] = 255
    upscaler = Upscaler(Narrow(), {}, dtype="bfloat16", batch=1)
    launch = upscaler.runner._launch

    def no_room(tiles, module=None):
        return launch(tiles) if module is None else MemoryError("no room\nfor it")

    monkeypatch.setattr(upscaler.runner, "_launch", no_room)
    with pytest.raises(RunError, match=r"cannot be computed again in float32: no room$"):
        upscaler(images)
    np.testing.assert_array_equal(upscaler(images[1]), images[1])


@pytest.mark.parametrize(
    ("platform", "memory", "expected"),
    [
        ("gpu", 2**30, {32: 64, 64: 64, 256: 8, 1024: 1, 4096: 1}),
        ("tpu", 2**34, {32: 64, 64: 64, 256: 16, 512: 8, 1024: 4, 4096: 1}),
        ("cpu", 2**30, {32: 1, 64: 1, 256: 1, 1024: 1, 4096: 1}),
    ],
)
def test_batches_fill_a_device_and_are_few(variables, platform, memory, expected):
    """Of an accelerator: powers of two, within its memory; of a TPU 8 tiles if they fit."""
    made = runner(variables)

    class Device:
        def __init__(self):
            self.platform = platform

        def memory_stats(self):
            return {"bytes_limit": memory, "bytes_in_use": 0}

    made.devices = [Device()]
    for side, size in expected.items():
        tile = tile_of(np.zeros((side, side, 3), np.uint8), side, side)
        assert made._batch_size(tile) == size


def record_placements(upscaler):
    """Lists the number of devices, the sharding and the shape of each batch from now on."""
    placed, step = [], upscaler.runner.step

    def seen(module, variables, lr, sizes, **options):
        placed.append((lr.sharding.num_devices, getattr(lr.sharding, "spec", None), lr.shape))
        return step(module, variables, lr, sizes, **options)

    upscaler.runner.step = seen
    return placed


def assert_same_but_for_rounding(result, expected):
    difference = np.abs(result.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize(
    ("seamless", "bands"),
    [(None, 4), ("mirror", 1), pytest.param("wrap", 1, marks=pytest.mark.slow)],
)
def test_columns_of_one_image_over_eight_devices_equal_one_device(variables, rng, bands, seamless):
    assert len(jax.devices()) == 8
    image = rng.integers(0, 256, (40, 83, bands), dtype=np.uint8)
    one = Upscaler(MODULE, variables, devices=jax.devices()[:1], seamless=seamless)(image)
    split = Upscaler(MODULE, variables, spatial=True, seamless=seamless)
    placed = record_placements(split)
    assert_same_but_for_rounding(split(image), one)
    assert [(number, spec[2]) for number, spec, _ in placed] == [(8, "data")]


@pytest.mark.parametrize(
    ("devices", "width"), [pytest.param(2, 100, marks=pytest.mark.slow), (3, 150)]
)
def test_a_lone_wide_tile_is_split_over_cpu_devices(variables, rng, devices, width):
    """A narrow one is not, and two tiles take a device each."""
    image = rng.integers(0, 256, (9, width, 3), dtype=np.uint8)
    one = Upscaler(MODULE, variables, devices=jax.devices()[:1])
    several = Upscaler(MODULE, variables, devices=jax.devices()[:devices])
    placed = record_placements(several)
    assert_same_but_for_rounding(several(image), one(image))
    several(image[:, :20])
    several([image, image])
    lengths = [shape[2] for *_, shape in placed]
    assert lengths[0] >= width > lengths[1]
    assert [number for number, *_ in placed] == [devices, 1, devices]
    assert tuple(placed[0][1]) == (None, None, "data")
    assert tuple(placed[2][1]) == ("data",)


def test_blocks_of_a_split_tile_are_split_by_rows(variables, rng, monkeypatch):
    blocks, seen = network._blocks, []

    def recorded(module, variables, x, *rest):
        seen.append(tuple(x.sharding.spec).index("data"))
        return blocks(module, variables, x, *rest)

    monkeypatch.setattr(network, "_blocks", recorded)
    image = rng.integers(0, 256, (9, 100, 3), dtype=np.uint8)
    one, two = (Upscaler(MODULE, variables, devices=jax.devices()[:n]) for n in (1, 2))
    split = two(image)
    assert set(seen) == {1}
    monkeypatch.undo()
    assert_same_but_for_rounding(split, one(image))
