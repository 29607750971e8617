"""What convolutions read beyond the edges of their input: zeros, or what `padded_by` says."""

import functools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax

Pad = Callable[[jax.Array, int], tuple[jax.Array, int]]
_current: ContextVar[Pad | None] = ContextVar("_current", default=None)


@contextmanager
def padded_by(pad: Pad | None) -> Generator[None]:
    """A context in which `pad` prepares the input of every convolution.

    Args:
        pad: Takes feature maps (N, H, W, C) and how many pixels a convolution reads beyond each
            edge. Returns the maps that it reads, and how many zeros it adds at each edge. It is a
            pytree, so that compiled functions can take it. None stands for zeros alone.
    """
    token = _current.set(pad)
    try:
        yield
    finally:
        _current.reset(token)


def only_zeros() -> bool:
    """Returns whether convolutions read zeros beyond the edges of their input."""
    return _current.get() is None


def padded(x: jax.Array, size: int) -> tuple[jax.Array, int]:
    """Prepares the input of a convolution that reads `size` pixels beyond each edge."""
    pad = _current.get()
    return pad(x, size) if pad and size else (x, size)


def traced_once(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Jits a function that convolves: calls with equal shapes and paddings are traced once.

    `jax.jit` alone would take the padding of the first call for those of all.
    """

    @jax.jit
    def jitted(pad: Pad | None, *args: Any) -> jax.Array:
        with padded_by(pad):
            return function(*args)

    return functools.wraps(function)(lambda *args: jitted(_current.get(), *args))
