"""The input pipeline: endless batches of patches from a source of images."""

import contextlib
import ctypes
import functools
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import resource_tracker
from typing import Any

import grain
import numpy as np
from absl import flags

from esrgan_jax.data import transforms
from esrgan_jax.data.sources import Images, Source
from esrgan_jax.errors import InputError
from esrgan_jax.sharding import usable_cores

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
MOST_WORKERS = 8  # each imports the package and keeps images in memory of its own


def make_dataset(
    source: Images,
    *,
    scale: int,
    hr_patch: int,
    batch_size: int,
    seed: int,
    augment: bool = True,
    around: int | None = None,
    num_workers: int = 0,
    num_threads: int = 4,
    shard_index: int = 0,
    shard_count: int = 1,
    parts: Sequence[tuple[int, float]] = (),
    patch: Callable[..., Mapping[str, Any]] = transforms.random_patch,
) -> grain.IterDataset[dict[str, np.ndarray]]:
    """Makes endless batches of a source: shuffled, cropped and augmented.

    In every epoch each image gives one patch. The batches depend only on `seed`, not on the numbers
    of shards, threads and workers. The iterator's `get_state()` is saved in the checkpoint; after
    `set_state()` the same batches follow, bit for bit. It counts batches, so it is the same for
    every shard. With workers the state has a part for each; `continued_state` converts it for
    another `num_workers`.

    Args:
        source: Random access to {"hr"} or {"lr", "hr"}, such as from `open_source`.
        scale: HR size divided by LR size.
        hr_patch: Side P of a patch in HR pixels.
        batch_size: Patches B in a batch, of all shards together.
        seed: Determines order, positions and augmentations.
        augment: Whether patches are flipped and rotated at random.
        around: Pixels m on every side of a patch; None: margin(scale), for MATLAB's bicubic.
        num_workers: Processes that make batches; 0 makes them in threads of this one.
        num_threads: Threads in each process.
        shard_index: Which rows of each batch to make: those from `shard_index` · B / `shard_count`.
        shard_count: Number of equal shares B / `shard_count` of a batch, such as one per process.
        parts: For a mixture of data sets, the number of images of each, in the order of `source`,
            and its weight: patches come from them in the ratio of the weights, and epochs are those
            of each set.
        patch: `transforms.random_patch`, or `random_indices` for a `device_cache.ImageShapes`.

    Returns:
        A dataset of {"hr": (B, P + 2m, P + 2m, 3)}, or of {"lr": (B, P/scale, P/scale, 3),
        "hr": (B, P, P, 3)} from a paired source; all uint8. Of several shards, each has its rows.

    Raises:
        InputError: `hr_patch` is not a multiple of `scale`, `batch_size` not one of `shard_count`,
            or `num_workers` or `num_threads` is too small.
    """
    if num_workers < 0:
        raise InputError(f"num_workers={num_workers}: must be 0 (no processes) or more")
    if num_threads < 1:
        raise InputError(f"num_threads={num_threads}: must be 1 or more")
    if hr_patch <= 0 or hr_patch % scale:
        raise InputError(f"hr_patch={hr_patch}: must be a multiple of the scale, {scale}")
    if batch_size % shard_count:
        raise InputError(f"batch_size={batch_size}: must be a multiple of {shard_count} shards")
    seed = _mix(seed, 0)
    parts = parts or [(len(source), 1.0)]
    ends = itertools.accumulate(count for count, _ in parts)
    sets = [
        grain.MapDataset.source(_Epochs(source, range(end - count, end), _mix(seed, number)))
        for number, (end, (count, _)) in enumerate(zip(ends, parts, strict=True))
    ]
    records = sets[0]
    if len(sets) > 1:
        records = grain.MapDataset.mix(sets, [weight for _, weight in parts])
    # A partial of a module-level function, which worker processes can unpickle.
    draw = functools.partial(
        patch, scale=scale, hr_patch=hr_patch, augmented=augment, around=around
    )
    # Grain derives random numbers from the seed and the index of a record, which is the same in all
    # shards: the sources are not sharded, but the batches are cut into shares in turn.
    shares = (
        records.seed(seed).random_map(draw).batch(batch_size // shard_count, drop_remainder=True)
    )
    batches = shares[shard_index::shard_count] if shard_count > 1 else shares
    # The buffer is in batches, per process.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    dataset = batches.to_iter_dataset(options)
    if num_workers:
        if not flags.FLAGS.is_parsed():  # Grain reads absl flags even in programs without them
            flags.FLAGS.mark_as_parsed()
        # Use pipes: batches in Grain's shared memory that are never fetched are not freed, at the
        # end of a run and when it is killed.
        piped = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
        dataset = grain.experimental.WithOptionsIterDataset(dataset, piped)
        options = grain.MultiprocessingOptions(num_workers=num_workers)
        dataset = dataset.mp_prefetch(options, _start_worker)
    return dataset


class _Epochs:
    """Images without end: each of them once in every epoch, in an order of its own.

    Grain's `shuffle` tries numbers below 2¹⁶ until one is the number of an image: 10 ms for a patch
    if there are four images, 8 µs if there are 100,000.
    """

    def __init__(self, source: Images, images: range, seed: int):
        self.source, self.images, self.seed = source, images, seed
        # Threads read the end of one epoch and the start of the next at the same time.
        self.orders: list[tuple[int, Any]] = [(-1, None), (-1, None)]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> Any:
        epoch, place = divmod(index, len(self.images))
        known, order = self.orders[epoch % 2]
        if known != epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
            self.orders[epoch % 2] = epoch, order
        return self.source[int(order[place])]


def start(batches: Any) -> None:
    """Starts the threads and processes that make batches, with SIGINT and SIGTERM blocked.

    Ctrl-C and schedulers signal the whole process group, and a worker imports modules for seconds
    before it reaches `_start_worker`.

    Args:
        batches: An iterator of a `grain.experimental.ThreadPrefetchIterDataset`.
    """
    resource_tracker.ensure_running()  # started later, it would unblock signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        batches.start_prefetch()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def choose_workers(source: Source, num_threads: int) -> int:
    """Returns a number of workers for this machine.

    Images are decoded outside Python's lock, so threads decode in parallel, and workers are needed
    only on machines with many cores. Without decoding, one process makes more than 1000 patches per
    second.

    Args:
        source: As for `make_dataset`.
        num_threads: Threads in each process.
    """
    workers = min(usable_cores() // num_threads, MOST_WORKERS)
    return workers if source.decodes and workers > 1 else 0


def continued_state(saved: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """Converts a state of a `make_dataset` iterator to another number of workers.

    Args:
        saved: The state to continue from.
        fresh: The state of a new iterator of the same batches.

    Returns:
        A state of the form of `fresh` after which the same batches follow as after `saved`.
    """
    # Grain's workers make the batches in turn: worker w of W makes w, w + W, w + 2W, …
    parts = saved.get("iterators_in_use_states", [saved])
    taken = sum(part["next_index"] for part in parts)
    if "next_index" in fresh:
        return {"next_index": taken}
    workers = len(fresh["iterators_in_use_states"])
    made = [{"next_index": (taken - w + workers - 1) // workers} for w in range(workers)]
    position = {"next_index_in_cycle": taken % workers, "iterators_in_use_states": made}
    return {**fresh, **position}


def keep_freed_memory() -> None:
    """Makes this process keep up to 64 MB that it frees, where its C library is glibc.

    By default glibc gives the memory of every record back to the system, which clears it before
    giving it out again. That took two fifths of the time to read a patch from ArrayRecord.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, 64 << 20)
        mallopt(M_MMAP_THRESHOLD, 32 << 20)


def _start_worker(index: int, count: int) -> None:
    """Ignores signals in a worker, which its parent ends."""
    del index, count
    keep_freed_memory()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Grain's workers do not notice that the training process was killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _mix(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
