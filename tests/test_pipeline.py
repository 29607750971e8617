"""Tests of the data pipeline: batches, epochs, shards, worker processes and checkpoints."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from typing import Any

import grain
import jax
import numpy as np
import pytest
from absl import flags

from esrgan_jax.data import pipeline
from esrgan_jax.data.pipeline import choose_workers, continued_state, make_dataset, start
from esrgan_jax.data.sources import ImageFolder
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import write_image
from esrgan_jax.imresize import degrade, imresize, margin


class Numbered:
    """Images with their index in red, the row in green and the column in blue."""

    decodes = False

    def __init__(self, count: int, paired: bool = False):
        self.count, self.paired = count, paired

    def files(self) -> dict[str, int]:
        return {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rows, columns = np.mgrid[:40, :48].astype(np.uint8)
        hr = np.stack([np.full_like(rows, index), rows, columns], axis=-1)
        return {"lr": hr[::4, ::4], "hr": hr} if self.paired else {"hr": hr}


def numbers(*batches: dict[str, np.ndarray]) -> list[int]:
    return [number for batch in batches for number in batch["hr"][:, 0, 0, 0].tolist()]


def take(count: int, source=None, **options: Any) -> list[dict[str, np.ndarray]]:
    defaults: dict[str, Any] = {"scale": 4, "hr_patch": 16, "batch_size": 4, "seed": 0}
    iterator = iter(make_dataset(source or Numbered(8), **(defaults | options)))
    return [next(iterator) for _ in range(count)]


def assert_equal(left: list, right: list) -> None:
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_batches_have_the_expected_shapes_and_dtypes():
    batch = take(1)[0]
    assert {name: (a.shape, a.dtype) for name, a in batch.items()} == {
        "hr": ((4, 32, 32, 3), np.uint8)
    }
    batch = take(1, Numbered(8, paired=True))[0]
    assert {name: (a.shape, a.dtype) for name, a in batch.items()} == {
        "lr": ((4, 4, 4, 3), np.uint8),
        "hr": ((4, 16, 16, 3), np.uint8),
    }


def test_each_epoch_has_every_image_once_in_a_new_order():
    batches = take(4)
    first, second = numbers(*batches[:2]), numbers(*batches[2:])
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    places = [
        {
            n: tuple(patch[8, 8, 1:])
            for batch in part
            for n, patch in zip(numbers(batch), batch["hr"], strict=True)
        }
        for part in (batches[:2], batches[2:])
    ]
    assert places[0] != places[1]


def test_the_order_of_an_epoch_is_computed_once():
    """Also where threads read two epochs in turn; of a set of a million images it takes 20 ms."""
    epochs = pipeline._Epochs(Numbered(8), range(2, 6), seed=0)

    def read(places):
        return {place: epochs[place]["hr"][0, 0, 0] for place in places}

    order = read((0, 4))
    computed = [known for _, known in epochs.orders]
    order |= read((1, 5, 2, 6, 3, 7))
    for epoch in (range(4), range(4, 8)):
        assert sorted(order[place] for place in epoch) == [2, 3, 4, 5]
    assert all(known is first for (_, known), first in zip(epochs.orders, computed, strict=True))


def test_batches_depend_on_the_seed_and_not_on_threads():
    batches = take(5)
    assert_equal(take(5), batches)
    assert_equal(take(5, num_threads=1), batches)
    assert list(map(numbers, take(5, seed=1))) != list(map(numbers, batches))


def test_images_repeat_if_there_are_fewer_than_the_batch_size():
    assert sorted(numbers(take(1, Numbered(3), batch_size=6)[0])) == [0, 0, 1, 1, 2, 2]


def test_a_mixture_gives_patches_in_the_ratio_of_its_weights():
    """The third set of eight images has two; each set has epochs of its own."""
    parts = [(3, 2.0), (3, 1.0), (2, 1.0)]
    batches = take(12, parts=parts)
    for batch in batches:
        assert sorted(number // 3 for number in numbers(batch)) == [0, 0, 1, 2]
    first = [number for number in numbers(*batches) if number < 3]
    assert all(sorted(first[n : n + 3]) == [0, 1, 2] for n in range(0, 24, 3))
    assert len({tuple(first[n : n + 3]) for n in range(0, 24, 3)}) > 1
    assert_equal(take(12, parts=parts, num_threads=1), batches)
    again = iter(make_dataset(Numbered(8), parts=parts, scale=4, hr_patch=16, batch_size=4, seed=0))
    again.set_state({"next_index": 5})
    assert_equal([next(again) for _ in range(7)], batches[5:])
    third = take(12, parts=parts, batch_size=6, shard_count=3, shard_index=2)
    assert_equal(third, [{"hr": b["hr"][4:]} for b in take(12, parts=parts, batch_size=6)])


def test_patches_are_flipped_or_rotated_only_with_augmentation():
    for batch in take(4, augment=False):
        inside = batch["hr"][:, 8:-8, 8:-8]
        assert (np.diff(inside[..., 1].astype(int), axis=1) == 1).all()
        assert (np.diff(inside[..., 2].astype(int), axis=2) == 1).all()
    upright = [
        (np.diff(patch[8:-8, 8:-8, 1].astype(int), axis=0) == 1).all()
        for batch in take(10)
        for patch in batch["hr"]
    ]
    assert 0 < sum(upright) < len(upright)


def test_lr_and_hr_patches_show_the_same_place():
    for batch in take(4, Numbered(8, paired=True)):
        np.testing.assert_array_equal(
            batch["hr"].reshape(4, 4, 4, 4, 4, 3)[..., 1:].min(axis=(2, 4)), batch["lr"][..., 1:]
        )


@pytest.mark.parametrize("count", [2, 4])
def test_shards_are_the_rows_of_the_same_batches(count):
    """Also in later epochs, and after the position that another shard or all of them saved."""
    whole = iter(make_dataset(Numbered(7), scale=4, hr_patch=16, batch_size=4, seed=0))
    batches = [next(whole) for _ in range(5)]
    for index in range(count):
        shard = {"shard_index": index, "shard_count": count}
        share = make_dataset(Numbered(7), scale=4, hr_patch=16, batch_size=4, seed=0, **shard)
        iterator, rows = iter(share), np.split(np.arange(4), count)[index]
        assert_equal([next(iterator)["hr"] for _ in batches], [b["hr"][rows] for b in batches])
        assert iterator.get_state() == whole.get_state()
        iterator.set_state({"next_index": 3})
        assert_equal(next(iterator)["hr"], batches[3]["hr"][rows])


@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_restored_iterator_gives_the_same_batches(num_workers):
    dataset = make_dataset(
        Numbered(8), scale=4, hr_patch=16, batch_size=4, seed=0, num_workers=num_workers
    )
    iterator = iter(dataset)
    before = [next(iterator) for _ in range(3)]
    state = iterator.get_state()
    after = [next(iterator) for _ in range(3)]
    fresh = iter(dataset)
    fresh.set_state(state)
    assert_equal([next(fresh) for _ in range(3)], after)
    assert_equal(take(6), before + after)  # the batches do not depend on workers
    options: dict[str, Any] = {"scale": 4, "hr_patch": 16, "batch_size": 4, "seed": 0}
    other = iter(make_dataset(Numbered(8), num_workers=2 - num_workers, **options))
    other.set_state(continued_state(state, other.get_state()))
    assert_equal([next(other) for _ in range(3)], after)
    # Grain's arrays in shared memory would be left behind if they are not fetched.
    assert all(type(batch["hr"]) is np.ndarray for batch in before)


def test_states_of_all_numbers_of_workers_are_converted():
    """Against the states of Grain, which count the batches that each worker gave."""
    states = {}
    for workers in (0, 1, 2, 3):
        options: dict[str, Any] = {"scale": 4, "hr_patch": 16, "batch_size": 4, "seed": 0}
        states[workers] = iter(
            make_dataset(Numbered(8), num_workers=workers, **options)
        ).get_state()
    for taken, of_three in ((0, [0, 0, 0]), (1, [1, 0, 0]), (2, [1, 1, 0]), (7, [3, 2, 2])):
        plain = {"next_index": taken}
        three = continued_state(plain, states[3])
        assert [part["next_index"] for part in three["iterators_in_use_states"]] == of_three
        assert three["next_index_in_cycle"] == taken % 3
        for fresh in states.values():
            moved = continued_state(three, fresh)
            assert moved.keys() == fresh.keys()
            assert continued_state(moved, states[0]) == plain


def test_workers_are_chosen_where_images_are_decoded_and_cores_are_many(monkeypatch):
    folder, prepared = Numbered(8), Numbered(8)
    folder.decodes, prepared.decodes = True, False
    for cores, workers in ((1, 0), (4, 0), (8, 2), (16, 4), (128, 8)):
        monkeypatch.setattr(pipeline, "usable_cores", lambda cores=cores: cores)
        assert choose_workers(folder, num_threads=4) == workers
        assert choose_workers(prepared, num_threads=4) == 0


def test_freed_memory_is_used_again():
    """In a process of its own, since the setting stays; without it, 150 pages or more each."""
    code = """
import resource
from esrgan_jax.data.pipeline import keep_freed_memory
keep_freed_memory()
for count in range(110):
    if count == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(700_000) for _ in range(3)]
    del blocks
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 100)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if sys.platform == "linux":
        assert float(done.stdout) < 20


def test_workers_ignore_sigint_and_sigterm():
    dataset = make_dataset(
        Numbered(8), scale=4, hr_patch=16, batch_size=4, seed=0, num_workers=2, num_threads=1
    )
    iterator = iter(dataset)
    batches = [next(iterator) for _ in range(2)]  # one of each worker: both have started
    workers = [worker.pid for worker in multiprocessing.active_children() if worker.pid]
    assert len(workers) == 2
    for pid in workers:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    batches += [next(iterator) for _ in range(18)]  # more than are prefetched
    assert_equal(batches, take(20))
    iterator.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not multiprocessing.active_children()


def test_starting_workers_ignore_sigint_and_sigterm():
    dataset = make_dataset(
        Numbered(8), scale=4, hr_patch=16, batch_size=4, seed=0, num_workers=2, num_threads=1
    )
    ahead = grain.experimental.ThreadPrefetchIterDataset(dataset, prefetch_buffer_size=1)
    with contextlib.closing(iter(ahead)) as iterator:
        start(iterator)
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM}
        ended = time.monotonic() + 30
        while len(workers := multiprocessing.active_children()) < 2:
            assert time.monotonic() < ended
            time.sleep(0.01)
        for worker in workers:
            os.kill(worker.pid, signal.SIGINT)
            os.kill(worker.pid, signal.SIGTERM)
        assert_equal([next(iterator) for _ in range(8)], take(8))


def test_workers_start_in_a_program_without_absl_flags():
    """Grain's processes read absl flags, which raise if the command line has not been parsed."""
    flags.FLAGS.unparse_flags()
    try:
        make_dataset(Numbered(8), scale=4, hr_patch=16, batch_size=4, seed=0, num_workers=1)
        assert flags.FLAGS.is_parsed()
    finally:
        flags.FLAGS.mark_as_parsed()


def test_passes_grains_test_of_checkpoints():
    dataset = make_dataset(Numbered(8), scale=4, hr_patch=16, batch_size=4, seed=3)
    finite = grain.experimental.LimitIterDataset(dataset, count=6)
    grain.experimental.assert_equal_output_after_checkpoint(finite)


def test_degraded_patches_match_the_lr_of_the_whole_image(tmp_path, rng):
    hr = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", hr)
    batch = take(1, ImageFolder(tmp_path, 32), hr_patch=32, augment=False)[0]["hr"]
    assert batch.shape == (4, 32 + 2 * margin(4), 32 + 2 * margin(4), 3)
    lr = np.round(np.asarray(degrade(batch, 4)) * 255)
    np.testing.assert_array_equal(lr, np.broadcast_to(imresize(hr, 1 / 4), lr.shape))


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="hr_patch=30: must be a multiple of the scale, 4"):
        take(1, hr_patch=30)
    with pytest.raises(InputError, match="batch_size=4: must be a multiple of 3 shards"):
        take(1, shard_count=3)
    with pytest.raises(InputError, match="num_workers=-1: must be 0"):
        take(1, num_workers=-1)
    with pytest.raises(InputError, match="num_threads=0: must be 1 or more"):
        take(1, num_threads=0)
