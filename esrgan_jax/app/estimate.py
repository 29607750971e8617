"""Estimates the progress on an image between the reports of the network."""

import math
import time
from typing import Any

import jax

COMPILING = 4.0  # seconds, the first time
FLOPS = 5e10  # a second, of a small CPU: the first guess, until an image was done
SLOWEST = 0.97  # of a step that is not done yet, at most


class Estimate:
    """The share of an image that is done.

    Args:
        steps: Reports to come, at least: of each tile.
        seconds: That the whole image takes, as far as can be known.
    """

    def __init__(self, steps: int, seconds: float):
        self.step, self.seconds = 1 / max(steps, 1), max(seconds, 0.1)
        self.done = 0.0
        self.start = self.last = time.monotonic()

    def report(self, share: float) -> None:
        """So much is done for certain."""
        if share > self.done:
            self.step = min(self.step, share - self.done)
            self.done, self.last = share, time.monotonic()
            self.seconds = (self.last - self.start) / share

    def share(self) -> float:
        """0 to 1; between reports it goes on, ever slower, and never reaches the next one."""
        step = min(self.step, 1 - self.done)
        if not step:
            return 1.0
        waited = (time.monotonic() - self.last) / (step * self.seconds)
        return self.done + step * SLOWEST * (1 - math.exp(-1.5 * waited))


class Rates:
    """What images took, for the estimates of further ones."""

    def __init__(self) -> None:
        self.seconds: dict[Any, float] = {}  # for a pixel of the image

    def estimate(self, kind: Any, upscaler: Any, height: int, width: int) -> Estimate:
        """Of an image of that size and a network of that kind."""
        side = upscaler.tile
        tiles = -(-height // side) * -(-width // side)
        passes = 8 if upscaler.ensemble else 1
        guess = COMPILING + 2 * _parameters(upscaler) * height * width * passes / FLOPS
        known = self.seconds.get(kind)
        return Estimate(tiles, known * height * width if known else guess)

    def learn(self, kind: Any, pixels: int, seconds: float) -> None:
        """An image took so long."""
        self.seconds[kind] = seconds / pixels


def _parameters(upscaler: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(upscaler.runner.variables))
