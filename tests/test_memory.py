"""Memory estimates per tile against the compiler's, and the choice of the tile size."""

import jax
import jax.numpy as jnp
import pytest

from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet
from esrgan_jax.upscaling import memory
from esrgan_jax.upscaling.tile_step import upscale_step

BF16 = jnp.dtype("bfloat16")
NETWORKS = {
    "23 blocks": RRDBNet(),
    "unshuffle": RRDBNet(scale=2, unshuffle=2),
    "small": RRDBNet(num_features=32, num_growth=16, num_blocks=5),
    "x8": RRDBNet(scale=8),
    "SRResNet": SRResNet(),
}


class Device:
    def __init__(self, platform="gpu", **stats):
        self.platform, self.stats = platform, stats

    def memory_stats(self):
        return self.stats or None


@pytest.mark.parametrize("name", NETWORKS)
def test_estimates_are_close_to_those_of_the_compiler(name):
    module, side = NETWORKS[name], 512
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    tiles = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
    sizes = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    compiled = upscale_step.lower(module, variables, tiles, sizes, dtype="uint8").compile()
    used = compiled.memory_analysis().temp_size_in_bytes / side**2
    assert 0.7 * used <= memory.bytes_per_pixel(module, Device("cpu")) <= 1.5 * used


# Side, batch and the temporary bytes a pixel of programs compiled with jax 0.10.2. Rearranged
# weights are among them, so large networks are listed with many pixels alone.
COMPILED = {
    "gpu": [
        (RRDBNet(), 256, 8, 3563),
        (RRDBNet(), 1024, 1, 3509),
        (RRDBNet(dtype=BF16), 256, 8, 1835),
        (RRDBNet(dtype=BF16), 1024, 1, 1781),
        (RRDBNet(scale=2, dtype=BF16), 512, 1, 1971),
        (RRDBNet(scale=2, unshuffle=2, dtype=BF16), 2048, 1, 445),
        (RRDBNet(scale=8, dtype=BF16), 512, 1, 3297),
        (RRDBNet(num_features=32, num_growth=16, dtype=BF16), 512, 1, 895),
        (RRDBNet(num_features=32, num_growth=32, dtype=BF16), 512, 1, 1345),
        (SRResNet(dtype=BF16), 512, 1, 6144),
    ],
    "tpu": [
        (RRDBNet(dtype=BF16), 256, 8, 2645),
        (RRDBNet(dtype=BF16), 512, 2, 2701),
        (RRDBNet(dtype=BF16), 1024, 1, 3447),
        (RRDBNet(num_features=32, num_growth=32, dtype=BF16), 256, 8, 2401),
        (SRResNet(dtype=BF16), 512, 1, 11355),
    ],
}


@pytest.mark.parametrize("platform", COMPILED)
def test_estimates_are_within_a_quarter_of_compiled_programs(platform):
    """Of an H100 and of a v5e, see benchmarks/compile_for.py."""
    for module, _, _, used in COMPILED[platform]:
        estimate = memory.bytes_per_pixel(module, Device(platform))
        assert estimate == pytest.approx(used, rel=0.25), module


def test_batches_of_eight_fit_into_a_tpu():
    module, device = RRDBNet(dtype=BF16), Device("tpu", bytes_limit=int(15.75 * 2**30))
    side = memory.tile_side(module, device)
    assert side == 448
    assert 8 * side**2 <= memory.batch_pixels(module, device)
    assert memory.tile_side(module, device, planes=8) == side
    large = Device("tpu", bytes_limit=95 * 2**30)
    assert memory.tile_side(module, large) == memory.LARGEST_TPU_TILE


@pytest.mark.parametrize(
    ("free", "side"), [(2**20, 64), (2**30, 480), (2 * 2**30, 672), (80 * 2**30, 1024)]
)
def test_tile_size_grows_with_device_memory(free, side):
    device = Device(bytes_limit=free + 100, bytes_in_use=100)
    assert memory.tile_side(RRDBNet(), device) == side
    assert memory.tile_side(RRDBNet(), device, planes=8) <= side


def test_tiles_on_a_cpu_use_only_part_of_the_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_host_bytes", lambda: 8 * 2**30)
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    assert memory.budget(Device("cpu")) == memory.MOST_ON_CPU
    monkeypatch.setattr(memory, "free_host_bytes", lambda: 2**30)
    assert memory.budget(Device("cpu")) == 2**28


def test_free_host_memory_respects_container_limits(monkeypatch, tmp_path):
    free = memory.free_host_bytes()
    assert 2**26 < free < 2**45
    limit = tmp_path / "limit"
    (tmp_path / "usage").write_text("1500000\n")
    (tmp_path / "memory.stat").write_text("anon 1000000\ncache 500000\n")
    monkeypatch.setattr(memory, "CGROUPS", ((str(limit), "usage", "cache"),))
    assert memory.free_host_bytes() > 2**26  # no such file
    limit.write_text("max\n")
    assert memory.free_host_bytes() > 2**26
    limit.write_text("3000000\n")
    assert memory.free_host_bytes() == 2_000_000
