"""The upscaling step: a pure function from LR tiles to SR tiles, run on the device."""

from collections.abc import Callable
from functools import partial
from typing import TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from esrgan_jax.imresize import resize
from esrgan_jax.models.generator import Generator, Variables
from esrgan_jax.upscaling import network
from esrgan_jax.upscaling.borders import continued, take
from esrgan_jax.upscaling.color import color_drift
from esrgan_jax.upscaling.ensemble import all_versions, mean_of_versions
from esrgan_jax.upscaling.planes import from_planes, to_planes
from esrgan_jax.upscaling.strips import white_level


class _Options(TypedDict):
    """The options of `upscale_step` after the network."""

    ensemble: bool
    keep_color: bool
    dtype: str


@partial(
    jax.jit,
    static_argnums=0,
    static_argnames=("border", "ensemble", "keep_color", "dtype"),
)
def upscale_step(
    module: Generator,
    variables: Variables,
    tiles: jax.Array,
    sizes: jax.Array,
    strength: float | None = None,
    *,
    border: str = "zero",
    ensemble: bool = False,
    keep_color: bool = False,
    dtype: str = "float32",
) -> tuple[jax.Array, jax.Array]:
    """Upscales a batch of tiles.

    Args:
        module: The generator, with 1, 3 or 4 channels.
        variables: Its variables.
        tiles: (N, h, w, bands): 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha);
            uint8, uint16, or float32 in [0, 1]. Zero beyond `sizes`.
        sizes: (N, 2) int, the height and width of the part that is image.
        strength: 1 (or None) is the network's result, 0 bicubic interpolation, and between them a
            blend of both. Traced, so one program serves all values.
        border: The padding at an image's border, see `upscaling.borders`.
        ensemble: Takes the mean over the eight flipped and transposed versions of each tile, which
            must be square.
        keep_color: Corrects the low frequencies of the result towards those of the input.
        dtype: Of the result: "uint8", "uint16" or "float32".

    Returns:
        (N, scale h, scale w, `result_bands`) in `dtype`, clamped to [0, 1], integers rounded half
        to even as the authors' test.py does; and (N,) bool, whether the network's result
        is finite for each tile.
    """
    x, x_sizes = _network_inputs(module, tiles, sizes, ensemble)
    sr = network.apply(module, variables, x, x_sizes, border)
    options: _Options = {"ensemble": ensemble, "keep_color": keep_color, "dtype": dtype}
    return _finished(module, tiles, sizes, sr, border, strength, **options)


def upscale_in_parts(
    module: Generator,
    variables: Variables,
    tiles: jax.Array,
    sizes: jax.Array,
    strength: float | None = None,
    *,
    border: str = "zero",
    ensemble: bool = False,
    keep_color: bool = False,
    dtype: str = "float32",
    progress: Callable[[float], None],
    by_rows: Sharding | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Does the same as `upscale_step` in several programs, to report progress on a slow device.

    Args:
        progress: Called after each program with the finished part of the work, in (0, 1].
        by_rows: For tiles whose columns are split, see `network.apply_in_parts`.
    """
    first, first_sizes = _begun(module, variables, tiles, sizes, border, ensemble)
    results = network.apply_in_parts(
        module, variables, first, first_sizes, border, progress, by_rows
    )
    options: _Options = {"ensemble": ensemble, "keep_color": keep_color, "dtype": dtype}
    return _joined(module, tiles, sizes, results, border, strength, **options)


def _network_inputs(
    module: Generator, tiles: jax.Array, sizes: jax.Array, ensemble: bool
) -> tuple[jax.Array, jax.Array]:
    """Returns the network's inputs as one batch, (M, h, w, in_channels), and their sizes."""
    planes = _planes(module, tiles, sizes)
    flat, flat_sizes = planes.reshape(-1, *planes.shape[2:]), sizes.repeat(planes.shape[1], axis=0)
    return all_versions(flat, flat_sizes) if ensemble else (flat, flat_sizes)


def _planes(module: Generator, tiles: jax.Array, sizes: jax.Array) -> jax.Array:
    """Returns the planes of tiles, (N, planes, h, w, in_channels) in [0, 1]."""
    step = 1 / 255 if tiles.dtype == jnp.uint8 else 1 / 65535
    return to_planes(_unit(tiles), sizes, module, step)


def _unit(tiles: jax.Array) -> jax.Array:
    """Returns tiles as float32 in [0, 1]."""
    if jnp.issubdtype(tiles.dtype, jnp.floating):
        return tiles.astype(jnp.float32)
    # XLA divides by multiplying with a rounded 1/255, so the same image in 16 bits would differ.
    full = white_level(tiles.dtype)
    return jnp.asarray(np.arange(full + 1, dtype=np.float32) / np.float32(full))[tiles]


def _finished(
    module: Generator,
    tiles: jax.Array,
    sizes: jax.Array,
    sr: jax.Array,
    border: str,
    strength: float | None,
    *,
    ensemble: bool,
    keep_color: bool,
    dtype: str,
) -> tuple[jax.Array, jax.Array]:
    """Turns the network's results for `_network_inputs` into those of `upscale_step`."""
    planes = _planes(module, tiles, sizes)
    n, count = planes.shape[:2]
    flat, flat_sizes = planes.reshape(-1, *planes.shape[2:]), sizes.repeat(count, axis=0)
    sr = mean_of_versions(sr, flat_sizes * module.scale) if ensemble else sr
    finite = jnp.isfinite(sr).all((1, 2, 3)).reshape(n, count).all(1)
    if keep_color:
        sr += color_drift(flat, sr, flat_sizes, module.scale)
    if strength is not None:
        sr = strength * sr + (1 - strength) * _bicubic(flat, flat_sizes, module.scale)
    sr = sr.reshape(n, count, *sr.shape[1:])
    sr = from_planes(sr, _unit(tiles), sizes, module, border, strength).clip(0, 1)
    if dtype != "float32":
        sr = jnp.rint(sr * white_level(dtype)).astype(dtype)
    return sr, finite


@partial(jax.jit, static_argnums=(0, 4, 5))
def _begun(
    module: Generator,
    variables: Variables,
    tiles: jax.Array,
    sizes: jax.Array,
    border: str,
    ensemble: bool,
) -> tuple[jax.Array, jax.Array]:
    """Returns what `network.begun` does of tiles."""
    x, x_sizes = _network_inputs(module, tiles, sizes, ensemble)
    return network.begun(module, variables, x, x_sizes, border)


@partial(jax.jit, static_argnums=(0, 4), static_argnames=("ensemble", "keep_color", "dtype"))
def _joined(
    module: Generator,
    tiles: jax.Array,
    sizes: jax.Array,
    results: list[jax.Array],
    border: str,
    strength: float | None,
    **options: Unpack[_Options],
) -> tuple[jax.Array, jax.Array]:
    """Joins the strips of `network.apply_in_parts`, and does the same as `_finished`."""
    sr = network.joined(module, results, tiles.shape[1], border)
    return _finished(module, tiles, sizes, sr, border, strength, **options)


def _bicubic(x: jax.Array, sizes: jax.Array, scale: int) -> jax.Array:
    """Upscales as MATLAB's bicubic `imresize`, with each image mirrored at its own border."""
    reach = 3
    positions = [jnp.arange(-reach, x.shape[axis] + reach)[None] for axis in (1, 2)]
    indices = [continued(p, sizes[:, i : i + 1], "mirror") for i, p in enumerate(positions)]
    cut = reach * scale
    return resize(take(x, *indices), scale)[:, cut:-cut, cut:-cut]
