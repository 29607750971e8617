"""Estimates the progress on an image between the reports of the network."""

import math
import time
from collections.abc import Hashable

import jax

from esrgan_jax.upscaling.upscaler import Upscaler

Kind = Hashable

COMPILING = 4.0  # seconds for the first image
FLOPS = 5e10  # per second on a small CPU: the guess for the first image
UNFINISHED = 0.97  # largest share of a step that is shown before the step is reported


class Estimate:
    """Estimates the finished share of one image.

    Args:
        steps: Least number of reports to expect, one per tile.
        seconds: Expected time for the whole image.
    """

    def __init__(self, steps: int, seconds: float):
        self.step, self.seconds = 1 / max(steps, 1), max(seconds, 0.1)
        self.done = 0.0
        self.start = self.last = time.monotonic()

    def report(self, share: float) -> None:
        """Records that this share, 0 to 1, is finished."""
        if share > self.done:
            self.step = min(self.step, share - self.done)
            self.done, self.last = share, time.monotonic()
            self.seconds = (self.last - self.start) / share

    def share(self) -> float:
        """Returns the share, 0 to 1. It slows down between reports and stays below the next one."""
        step = min(self.step, 1 - self.done)
        if not step:
            return 1.0
        waited = (time.monotonic() - self.last) / (step * self.seconds)
        return self.done + step * UNFINISHED * (1 - math.exp(-1.5 * waited))


class Rates:
    """Remembers how long images took, to estimate the next ones."""

    def __init__(self) -> None:
        self.seconds: dict[Kind, float] = {}  # per LR pixel

    def estimate(self, kind: Kind, upscaler: Upscaler, height: int, width: int) -> Estimate:
        """Returns the estimate for an image; `kind` is the network with its options."""
        side = upscaler.tile
        tiles = -(-height // side) * -(-width // side)
        passes = 8 if upscaler.ensemble else 1
        guess = COMPILING + 2 * _parameters(upscaler) * height * width * passes / FLOPS
        known = self.seconds.get(kind)
        return Estimate(tiles, known * height * width if known else guess)

    def learn(self, kind: Kind, pixels: int, seconds: float) -> None:
        """Records the seconds that an image of so many LR pixels took."""
        self.seconds[kind] = seconds / pixels


def _parameters(upscaler: Upscaler) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(upscaler.runner.variables))
