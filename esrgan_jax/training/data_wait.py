"""Measures how long the devices wait for data, and says what to do about it."""

import time
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self

import jax

from esrgan_jax.data.sources import Source
from esrgan_jax.files import bytes_text
from esrgan_jax.training.run_config import Config

SHARE = 0.1  # of the time; more is reported
SECONDS = 10.0  # measured before that; the first steps use what was made while compiling

Batch = dict[str, jax.Array]


class DataWait:
    """Measures the time in which the last step is finished and the next batch is not there yet.

    The time that the host spends in `next` is longer: meanwhile the devices compute.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._finished: Future[float] | None = None
        self.restart()

    def restart(self) -> None:
        """Begins a new measurement."""
        self._began, self._waited, self._batches = time.monotonic(), 0.0, 0

    def next(self, batches: Iterator[Batch]) -> Batch:
        """Returns the next batch."""
        began = time.monotonic()
        batch = next(batches)
        if self._finished is not None and self._finished.done():
            idle_since = max(began, self._finished.result())
            self._waited += max(0.0, time.monotonic() - idle_since)
        self._batches += 1
        return batch

    def started(self, metrics: Mapping[str, jax.Array]) -> None:
        """Registers a step that was started and will compute `metrics`."""
        self._finished = self._thread.submit(_finish, metrics)

    @contextmanager
    def paused(self) -> Generator[None]:
        """Does not count the time of the block, such as a validation."""
        began = time.monotonic()
        yield
        self._began += time.monotonic() - began

    @property
    def seconds(self) -> float:
        """How long it has measured."""
        return time.monotonic() - self._began

    @property
    def mean(self) -> float:
        """Seconds of waiting for each batch."""
        return self._waited / max(self._batches, 1)

    @property
    def share(self) -> float:
        """Waiting as a part of the time, from 0 to 1; 0 in the first SECONDS."""
        return self._waited / self.seconds if self.seconds >= SECONDS else 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(wait=False)


def advice(share: float, source: Source, settings: Config, num_workers: int) -> str:
    """Returns the message for a run whose devices wait for data.

    Args:
        share: Waiting as a part of the time.
        source: The training images.
        settings: The config's section `data`.
        num_workers: Processes that make batches now.
    """
    threads, size = settings.num_threads, bytes_text(source.decoded_bytes)
    if settings.cache == "device":
        ways = [f"use more threads by --config.data.num_threads={2 * threads} (now {threads})"]
    else:
        ways = ["prepare the images once by `esrgan-jax prepare`"] if source.decodes else []
        ways += [
            f"keep them on the devices by --config.data.cache=device ({size} in all)",
            f"use more processes by --config.data.num_workers={max(2, 2 * num_workers)} "
            f"(now {num_workers})",
        ]
    return f"the devices wait for data {share:.0%} of the time: {', or '.join(ways)}"


def _finish(metrics: Mapping[str, jax.Array]) -> float:
    jax.block_until_ready(metrics)
    return time.monotonic()
