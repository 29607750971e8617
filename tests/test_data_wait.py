"""Waiting for data, on a clock that moves only when the test says so."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from ml_collections import ConfigDict

from esrgan_jax.training import data_wait
from esrgan_jax.training.data_wait import DataWait, advice


@pytest.fixture
def clock(monkeypatch) -> Any:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(data_wait, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_waiting_counts_from_the_end_of_the_step_before(clock, monkeypatch):
    ends: list[float] = []
    monkeypatch.setattr(data_wait, "_finish", lambda metrics: ends.pop(0))

    def batches():
        while True:
            clock.now += 5
            yield {}

    data = batches()
    with DataWait() as wait:
        wait.next(data)  # no step is done yet: the first batch is not waited for
        assert wait.mean == 0
        began = clock.now
        for end in (began - 1, began + 8):  # before `next` is called; 3 s in the second call
            ends.append(end)
            wait.started({})
            assert wait._finished is not None
            wait._finished.result()
            wait.next(data)
        assert wait.mean == pytest.approx((0 + 5 + 2) / 3)
        assert wait.seconds == 15
        assert wait.share == pytest.approx(7 / 15)
        with wait.paused():
            clock.now += 1000
        assert wait.share == pytest.approx(7 / 15)
        wait.restart()
        assert (wait.seconds, wait.mean, wait.share) == (0, 0, 0)


def test_a_step_that_still_runs_waits_for_nothing(clock):
    class Running:
        def block_until_ready(self):
            released.wait(30)

    released = threading.Event()
    with DataWait() as wait:
        wait.started({"loss": Running()})  # pyright: ignore[reportArgumentType]
        clock.now += 20
        wait.next(iter([{}]))
        assert (wait.mean, wait.share) == (0, 0)
        released.set()


def test_the_first_seconds_say_nothing(clock):
    with DataWait() as wait:
        wait.started({})
        assert wait._finished is not None
        wait._finished.result()

        def late():
            clock.now += data_wait.SECONDS - 1
            yield {}

        wait.next(late())
        assert wait.mean == data_wait.SECONDS - 1
        assert wait.share == 0
        clock.now += 1
        assert wait.share == pytest.approx(0.9)


def test_the_advice_fits_source_and_settings():
    folder: Any = SimpleNamespace(decodes=True, decoded_bytes=6 * 2**30)
    prepared: Any = SimpleNamespace(decodes=False, decoded_bytes=2**30)
    settings = ConfigDict({"num_threads": 4, "cache": "memory"})
    assert advice(0.433, folder, settings, 0) == (
        "the devices wait for data 43% of the time: prepare the images once by `esrgan-jax "
        "prepare`, or keep them on the devices by --config.data.cache=device (6.0 GiB in all), or "
        "use more processes by --config.data.num_workers=2 (now 0)"
    )
    said = advice(0.2, prepared, settings, 3)
    assert "prepare" not in said
    assert said.endswith("--config.data.num_workers=6 (now 3)")
    settings.cache = "device"
    assert advice(0.2, prepared, settings, 0).endswith("--config.data.num_threads=8 (now 4)")
