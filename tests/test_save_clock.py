"""Tests of checkpoints by time: by one clock, after the same step in all processes."""

import pytest

from esrgan_jax import distributed
from esrgan_jax.training import save_clock
from esrgan_jax.training.save_clock import SaveClock


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """Returns a list whose only item is the time, in seconds."""
    time = [1000.0]
    monkeypatch.setattr(save_clock.time, "monotonic", lambda: time[0])
    return time


def test_a_checkpoint_is_due_minutes_after_the_last(now):
    clock, never = SaveClock("psnr", 2.0), SaveClock("psnr", 0)
    now[0] += 119
    assert not clock.due(1)
    now[0] += 1
    assert clock.due(2)
    assert clock.due(3)  # it was not saved
    clock.saved()
    assert not clock.due(4)
    now[0] += 1e9
    assert not never.due(5)


@pytest.mark.parametrize("ahead", [0, 1])
def test_the_clock_of_process_0_names_a_step_for_all(now, monkeypatch, ahead):
    """One process asks for step s + 1 before the other asks for s, which is as far as it gets."""
    index, store = 0, {}
    monkeypatch.setattr(distributed, "place", lambda: (index, 2))
    monkeypatch.setattr(distributed, "first", lambda: index == 0)
    monkeypatch.setattr(distributed, "put", store.__setitem__)
    after = "save/psnr/after"
    monkeypatch.setattr(
        distributed, "read", lambda key: {"after": store[after]} if after in store else {}
    )
    clocks, due = [SaveClock("psnr", 1.0), SaveClock("psnr", 1.0)], ([], [])
    for step in range(20):
        for index in (ahead, 1 - ahead):
            asked = step + 1 if index == ahead else step
            now[0] += 12
            if clocks[index].due(asked):
                due[index].append(asked)
                clocks[index].saved()
    assert len(due[1 - ahead]) > 1
    assert [step for step in due[ahead] if step < 20] == due[1 - ahead]
