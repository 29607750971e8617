"""Builds the input of a run from its config: the training images, and batches on the devices."""

from collections.abc import Callable
from functools import partial
from typing import Any

import grain
import jax
from jax.sharding import Mesh

from esrgan_jax import distributed, sharding
from esrgan_jax.data import device_cache, pipeline, transforms
from esrgan_jax.data.device_cache import DeviceCache
from esrgan_jax.data.mixture import Mixture
from esrgan_jax.data.sources import MEMORY, Source, open_source
from esrgan_jax.errors import InputError
from esrgan_jax.training.degrading import is_random
from esrgan_jax.training.folders import folders, mixture
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.setting_rules import STAGES
from esrgan_jax.upscaling.memory import free_host_bytes


def open_images(config: Config) -> Source:
    """Opens the training images for all stages of the run.

    Raises:
        InputError: A folder is missing, or has no image that can be used.
    """
    names, weights = mixture(config.data.train, "data.train")
    lr_names = folders(config.data.train_lr, "data.train_lr") or None
    least = max(patch_side(config, name)[0] for name in STAGES[config.stage])
    # The progress of one process stands for all.
    opened = partial(open_source, scale=config.scale, min_size=least, shown=distributed.first())
    memory = 0 if on_devices(config) else MEMORY
    if not weights:
        return opened(names, lr_names, memory=memory)
    if lr_names and len(lr_names) != len(names):
        raise InputError(
            f"data.train_lr has {len(lr_names)} folders for {len(names)} of data.train: give one "
            "for each"
        )
    memory //= len(names)
    each = zip(names, lr_names or [None] * len(names), strict=True)
    return Mixture([opened(hr, lr, memory=memory) for hr, lr in each], weights)


def patch_side(config: Config, name: str) -> tuple[int, int | None]:
    """Returns the HR side that an image must have for a stage, and the mirrored pixels around it.

    A random degradation gets a square of the image, of which the patch is a crop.
    """
    patch = config[name].hr_patch
    return (patch + 2 * config.degradation.margin, 0) if is_random(config) else (patch, None)


def on_devices(config: Config) -> bool:
    """Returns whether the devices keep all images in their memory."""
    return config.data.cache == "device"


def check_room(source: Source, mesh: Mesh) -> int:
    """Returns how many bytes the images may take on each device.

    That is half of what is free. The other half is for the training, and for a moment, while the
    images are copied, for a second copy.

    Raises:
        InputError: The images do not fit, even if their rows are not filled up.
    """
    room = min(_free_bytes(device, mesh) for device in mesh.local_devices) // 2
    device_cache.check_fit(source.decoded_bytes // mesh.size, room, mesh)
    return room


def count_workers(config: Config, source: Source) -> int:
    """Returns the number of processes that make batches: the config's, or one that fits."""
    if on_devices(config):
        return 0  # only positions are drawn
    if config.data.num_workers is not None:
        return config.data.num_workers
    return pipeline.choose_workers(source, config.data.num_threads)


def make_batches(
    config: Config, name: str, source: Source, cache: DeviceCache | None, mesh: Mesh
) -> grain.IterDataset[Any]:
    """Makes what `cropper` needs for a stage's batches, prefetched two ahead on the devices."""
    pipeline.keep_freed_memory()
    side, around = patch_side(config, name)
    dataset = pipeline.make_dataset(
        cache.source if cache else source,
        scale=config.scale,
        hr_patch=side,
        around=around,
        batch_size=config[name].batch_size,
        seed=config.seed,
        augment=config.data.augment,
        num_workers=count_workers(config, source),
        num_threads=config.data.num_threads,
        parts=source.parts if isinstance(source, Mixture) else (),
        patch=transforms.random_indices if cache else transforms.random_patch,
        # A cache needs the positions of the whole batch in every process.
        shard_index=0 if cache else jax.process_index(),
        shard_count=1 if cache else jax.process_count(),
    )
    if cache:
        placed = dataset.map(lambda request: sharding.replicate(request, mesh))
    else:
        placed = dataset.map(lambda batch: sharding.put_batch(batch, mesh))
    return grain.experimental.ThreadPrefetchIterDataset(placed, prefetch_buffer_size=2)


def cropper(cache: DeviceCache | None, mesh: Mesh) -> Callable[[Any], dict[str, jax.Array]]:
    """Returns the function that makes a batch of what `make_batches` gives.

    Call it in the thread that starts the steps: programs of several devices that two threads start
    could wait for each other.
    """
    if cache is None:
        return lambda batch: batch
    return partial(jax.jit(partial(device_cache.crop, mesh=mesh)), cache.images)


def _free_bytes(device: Any, mesh: Mesh) -> int:
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    # Simulated devices, which share the host's memory.
    return free_host_bytes() // len(mesh.local_devices)
