"""The input pipeline: from a source of images to endless batches of patches, by one seed."""

import functools
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import resource_tracker
from typing import Any

import grain
import numpy as np
from absl import flags

from esrgan_jax.data import transforms
from esrgan_jax.data.sources import Source
from esrgan_jax.errors import InputError


def make_dataset(
    source: Source,
    *,
    scale: int,
    hr_patch: int,
    batch_size: int,
    seed: int,
    augment: bool = True,
    num_workers: int = 0,
    num_threads: int = 4,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.IterDataset[dict[str, np.ndarray]]:
    """Endless batches of a source: shuffled, cropped and augmented.

    In every epoch each image of the shard gives one patch. The batches depend on `seed` and the
    shard alone, not on the numbers of threads and workers. An iterator's `get_state()` goes into
    the checkpoint; after `set_state()` the same batches follow, bit for bit. With workers the state
    holds a part for each, so it must be restored with the same `num_workers`.

    Args:
        source: Random access to {"hr"} or {"lr", "hr"}, as `open_source` makes it.
        scale: HR pixels for one LR pixel.
        hr_patch: Side P of a patch in HR pixels.
        batch_size: Patches in a batch of this shard.
        seed: Fixes order, places and augmentations.
        augment: Whether patches are flipped and turned at random.
        num_workers: Processes that make batches; 0 makes them in threads of this one.
        num_threads: Threads in each process.
        shard_index: Which share of the images, of `shard_count` disjoint ones (one a host).
        shard_count: How many shares.

    Returns:
        A dataset of {"hr": (B, P + 2m, P + 2m, 3)} with m = margin(scale), or of
        {"lr": (B, P/scale, P/scale, 3), "hr": (B, P, P, 3)} from a paired source; all uint8.

    Raises:
        InputError: `hr_patch` is no multiple of `scale`, there are fewer images than shards, or
            `num_workers` or `num_threads` is too small.
    """
    if num_workers < 0:
        raise InputError(f"num_workers={num_workers}: must be 0 (no processes) or more")
    if num_threads < 1:
        raise InputError(f"num_threads={num_threads}: must be 1 or more")
    if hr_patch <= 0 or hr_patch % scale:
        raise InputError(f"hr_patch={hr_patch}: must be a multiple of the scale, {scale}")
    if len(source) < shard_count:
        raise InputError(f"{len(source)} images for {shard_count} hosts: each needs one")
    share = grain.MapDataset.source(source)[shard_index::shard_count]
    # Grain draws from the seed and the place in the share: shares must not draw alike.
    share = share.seed(_mix(seed, shard_index)).shuffle().repeat()
    # A partial of a function of the module, since worker processes must unpickle it.
    patch = functools.partial(_patch, scale=scale, hr_patch=hr_patch, augmented=augment)
    batches = share.random_map(patch).batch(batch_size, drop_remainder=True)
    # Counted in batches, and for every process.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    dataset = batches.to_iter_dataset(options)
    if num_workers:
        if not flags.FLAGS.is_parsed():  # Grain reads flags, also in programs that have none
            flags.FLAGS.mark_as_parsed()
        # Through the pipe: Grain's shared memory is left behind by batches that nobody fetches any
        # more, at every end, and by those of a run that is killed.
        piped = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        dataset = grain.experimental.WithOptionsIterDataset(dataset, piped)
        options = grain.MultiprocessingOptions(num_workers=num_workers)
        dataset = dataset.mp_prefetch(options, _obey_the_parent_alone)
    return dataset


def start(batches: Any) -> None:
    """Starts to make batches, in threads and processes that leave signals to the main thread.

    Ctrl-C and schedulers signal the whole group, and a worker is still importing for seconds before
    it comes to `_obey_the_parent_alone`.

    Args:
        batches: An iterator of a `grain.experimental.ThreadPrefetchIterDataset`.
    """
    resource_tracker.ensure_running()  # later it would unblock the signals of the thread it runs in
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        batches.start_prefetch()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_the_parent_alone(index: int, count: int) -> None:
    """Ignores signals in a worker: Ctrl-C reaches the whole group, and the parent ends workers."""
    del index, count
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Grain's workers do not notice that the training process was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _patch(
    element: dict[str, np.ndarray],
    rng: np.random.Generator,
    *,
    scale: int,
    hr_patch: int,
    augmented: bool,
) -> dict[str, np.ndarray]:
    patch = transforms.random_crop(element, rng, scale=scale, hr_patch=hr_patch)
    return transforms.augment(patch, rng) if augmented else patch


def _mix(seed: int, shard_index: int) -> int:
    return int(np.random.SeedSequence((seed, shard_index)).generate_state(1)[0])
