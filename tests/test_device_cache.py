"""Batches cropped on the devices equal those that the host crops."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from esrgan_jax import distributed, sharding
from esrgan_jax.data import device_cache
from esrgan_jax.data.pipeline import make_dataset
from esrgan_jax.data.sources import ImageFolder
from esrgan_jax.data.transforms import random_indices
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.image_file import write_image
from esrgan_jax.training import inputs

# Rows that end within a line of the memory, at its end, and lines later; sides that 4 leaves over.
SIZES = [(40, 48), (33, 256), (61, 53), (35, 700), (90, 33), (32, 32), (47, 512), (300, 37)]


ROOM = 2**40  # bytes


class Images:
    """Random images; if `paired`, with LR images of a quarter."""

    decodes, decoded_bytes = False, 10**9

    def __init__(self, paired: bool = False):
        rng = np.random.default_rng(0)
        draw = lambda h, w: rng.integers(1, 256, (h, w, 3), dtype=np.uint8)  # noqa: E731
        self.images = [
            {"hr": draw(h, w)} | ({"lr": draw(h // 4, w // 4)} if paired else {}) for h, w in SIZES
        ]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return self.images[index]

    def files(self) -> dict[str, int]:
        return {}


def options(**changes: Any) -> dict[str, Any]:
    return {"scale": 4, "hr_patch": 32, "batch_size": 8, "seed": 5, **changes}


def crops(cache: device_cache.DeviceCache, mesh, count: int, **changes: Any) -> list:
    data = iter(make_dataset(cache.source, patch=random_indices, **options(**changes)))
    crop = jax.jit(partial(device_cache.crop, mesh=mesh))
    return [crop(cache.images, next(data)) for _ in range(count)]


@pytest.mark.parametrize(("devices", "paired"), [(1, True), (8, True), (8, False)])
def test_batches_are_those_of_the_host(monkeypatch, devices, paired):
    monkeypatch.setattr(device_cache, "PIECE", 50)  # several pieces for each device
    mesh, source = sharding.create_mesh(jax.devices()[:devices]), Images(paired)
    cache = device_cache.load(source, mesh, ROOM)
    data = iter(make_dataset(source, **options()))
    for batch in crops(cache, mesh, 6):
        expected = next(data)
        assert batch.keys() == expected.keys()
        for name, array in batch.items():
            assert array.dtype == np.uint8
            assert array.sharding.is_equivalent_to(sharding.batched(mesh), 4)
            np.testing.assert_array_equal(array, expected[name])
    if not paired:
        changes = {"augment": False, "seed": 6, "around": 0}
        (batch,) = crops(cache, mesh, 1, **changes)
        expected = next(iter(make_dataset(source, **options(**changes))))
        assert batch["hr"].shape == (8, 32, 32, 3)
        np.testing.assert_array_equal(batch["hr"], expected["hr"])


def test_if_processes_decoded_different_images_the_run_ends(monkeypatch):
    monkeypatch.setattr(distributed, "gather", lambda value: [value, "other"])
    with pytest.raises(RunError, match="the processes decoded different images"):
        device_cache.load(Images(), sharding.create_mesh(jax.devices()[:1]), ROOM)


def test_each_device_has_its_share():
    mesh, source = sharding.create_mesh(jax.devices()[:4]), Images()
    stored = device_cache.load(source, mesh, ROOM).images["hr"]
    shapes = [image["hr"].shape for image in source.images]
    lines = [height * device_cache.lines_per_row(width) for height, width, _ in shapes]
    of_device = np.bincount(stored.device, lines, 4).astype(int).tolist()
    assert sum(of_device) == sum(lines)
    assert max(of_device) - min(of_device) <= max(lines)
    assert stored.lines.shape == (4 * max(of_device), 3 * device_cache.LINE)
    shards = stored.lines.addressable_shards
    assert [shard.data.shape[0] for shard in shards] == [max(of_device)] * 4


def test_a_damaged_image_is_replaced_as_on_the_host(tmp_path, rng, capfd):
    for name in "012":
        write_image(tmp_path / f"{name}.png", rng.integers(0, 256, (64, 48, 3), dtype=np.uint8))
    path = tmp_path / "1.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    mesh = sharding.create_mesh(jax.devices()[:1])
    cache = device_cache.load(ImageFolder(tmp_path, 32, memory=0), mesh, ROOM)
    assert capfd.readouterr().err.count("1.png: ") == 1
    data = iter(make_dataset(ImageFolder(tmp_path, 32), **options()))
    for batch in crops(cache, mesh, 3):
        np.testing.assert_array_equal(batch["hr"], next(data)["hr"])


def test_images_that_do_not_fit_are_refused():
    def device(limit: int, used: int) -> Any:
        return SimpleNamespace(memory_stats=lambda: {"bytes_limit": limit, "bytes_in_use": used})

    def check(*devices: Any) -> None:
        mesh: Any = SimpleNamespace(local_devices=devices, size=len(devices))
        inputs.check_room(Images(), mesh)

    check(device(2 * 10**9, 0))
    check(device(2 * 10**9, 10**9), device(2 * 10**9, 0))
    message = r"device: the images take 476.8 MiB or more on each of the 2 devices, and may "
    with pytest.raises(InputError, match=message + r"take 475\.\d MiB, half of what is free"):
        check(device(2 * 10**9, 10**9 + 3 * 10**6), device(2 * 10**9, 0))


def test_rows_count_with_what_fills_them_up():
    mesh, source = sharding.create_mesh(jax.devices()[:1]), Images(paired=True)
    lines = sum(
        len(image) * device_cache.lines_per_row(image.shape[1])
        for images in source.images
        for image in images.values()
    )
    exact = lines * 3 * device_cache.LINE
    device_cache.load(source, mesh, exact)
    with pytest.raises(InputError, match="is device: the images take"):
        device_cache.load(source, mesh, exact - 1)
