"""What convolutions read beyond the edges of their input: zeros, or what `padded_by` says."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

import jax

Pad = Callable[[jax.Array, int], tuple[jax.Array, int]]
current: ContextVar[Pad | None] = ContextVar("current", default=None)


@contextmanager
def padded_by(pad: Pad | None) -> Generator[None]:
    """A context in which `pad` prepares the input of every convolution.

    Args:
        pad: Takes feature maps (N, H, W, C) and how many pixels a convolution reads beyond each
            edge. Returns the maps that it reads, and how many zeros it adds at each edge. It is a
            pytree, so that compiled functions can take it. None stands for zeros alone.
    """
    token = current.set(pad)
    try:
        yield
    finally:
        current.reset(token)


def padded(x: jax.Array, size: int) -> tuple[jax.Array, int]:
    """Prepares the input of a convolution that reads `size` pixels beyond each edge."""
    pad = current.get()
    return pad(x, size) if pad and size else (x, size)
