"""The step of upscaling: LR tiles to SR tiles on the device, a pure function."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.data.resize import resize
from esrgan_jax.errors import InputError
from esrgan_jax.models.borders import continued, inside, take
from esrgan_jax.upscaling import network

COLOR_SIGMA, COLOR_FIELD = 4.0, 12  # of the low-pass filter of `keep_color`, in LR pixels
CONTINUED = 24  # LR pixels that colours go on under what is transparent
LUMA = (0.299, 0.587, 0.114)


@partial(
    jax.jit,
    static_argnums=0,
    static_argnames=("border", "ensemble", "keep_color", "whole", "dtype"),
)
def upscale_step(
    module: Any,
    variables: Any,
    tiles: jax.Array,
    sizes: jax.Array,
    strength: float | None = None,
    *,
    border: str = "zero",
    ensemble: bool = False,
    keep_color: bool = False,
    whole: bool = False,
    dtype: str = "float32",
) -> tuple[jax.Array, jax.Array]:
    """Upscales a batch of tiles.

    Args:
        module: The generator, with 1, 3 or 4 channels.
        variables: Its variables.
        tiles: (N, h, w, bands): 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha);
            uint8, uint16, or float32 in [0, 1]. Zero beyond `sizes`.
        sizes: (N, 2) int, the height and width that is picture.
        strength: 1 (or None) is the network, 0 bicubic enlargement, between a blend of both.
            Traced, so one program serves every value.
        border: What lies beyond a picture, see `models.borders`.
        ensemble: The mean over the eight dihedral versions of each tile, which must be square.
        keep_color: Corrects the low frequencies of the result towards those of the input.
        whole: Enlarges in one go instead of some rows at a time: for tiles whose rows are split
            over devices.
        dtype: Of the result: "uint8", "uint16" or "float32".

    Returns:
        (N, scale h, scale w, `result_bands`) in `dtype`, clamped to [0, 1], integers rounded half
        to even as the authors' test.py does; and (N,) bool, whether the network's result is finite.
    """
    x, x_sizes = _seen(module, tiles, sizes, ensemble)
    sr = network.apply(module, variables, x, x_sizes, border=border, whole=whole)
    options: Any = {"ensemble": ensemble, "keep_color": keep_color, "dtype": dtype}
    return _finished(module, tiles, sizes, sr, strength, **options)


def upscale_in_parts(
    module: Any,
    variables: Any,
    tiles: jax.Array,
    sizes: jax.Array,
    strength: float | None = None,
    *,
    border: str = "zero",
    ensemble: bool = False,
    keep_color: bool = False,
    dtype: str = "float32",
    progress: Callable[[float], None],
) -> tuple[jax.Array, jax.Array]:
    """The same as `upscale_step` in several programs, which a slow device is waited for in turn.

    Args:
        progress: Called with the part of the network's work that is done, in (0, 1].
    """
    x, x_sizes = _seen_alone(module, tiles, sizes, ensemble)
    results = network.apply_in_parts(module, variables, x, x_sizes, border, progress)
    options: Any = {"ensemble": ensemble, "keep_color": keep_color, "dtype": dtype}
    return _joined(module, tiles, sizes, results, border, strength, **options)


def _seen(
    module: Any, tiles: jax.Array, sizes: jax.Array, ensemble: bool
) -> tuple[jax.Array, jax.Array]:
    """All that the network sees of tiles as one batch, (M, h, w, in_channels), and its sizes."""
    planes = _planes(module, tiles, sizes)
    flat, flat_sizes = planes.reshape(-1, *planes.shape[2:]), sizes.repeat(planes.shape[1], axis=0)
    return _turned(flat, flat_sizes) if ensemble else (flat, flat_sizes)


def _planes(module: Any, tiles: jax.Array, sizes: jax.Array) -> jax.Array:
    step = 1 / 255 if tiles.dtype == jnp.uint8 else 1 / 65535
    return to_planes(_unit(tiles), sizes, module, step)


def _unit(tiles: jax.Array) -> jax.Array:
    """(N, h, w, bands) in [0, 1]."""
    if jnp.issubdtype(tiles.dtype, jnp.floating):
        return tiles.astype(jnp.float32)
    # XLA divides by multiplying with a rounded 1/255, and the same picture in 16 bits would be
    # another one.
    full = peak(tiles.dtype)
    return jnp.asarray(np.arange(full + 1, dtype=np.float32) / np.float32(full))[tiles]


def _finished(
    module: Any,
    tiles: jax.Array,
    sizes: jax.Array,
    sr: jax.Array,
    strength: float | None,
    *,
    ensemble: bool,
    keep_color: bool,
    dtype: str,
) -> tuple[jax.Array, jax.Array]:
    """What `upscale_step` gives, of the network's results of what `_seen` made."""
    planes = _planes(module, tiles, sizes)
    n, count = planes.shape[:2]
    flat, flat_sizes = planes.reshape(-1, *planes.shape[2:]), sizes.repeat(count, axis=0)
    sr = _turned_back(sr, flat_sizes * module.scale) if ensemble else sr
    finite = jnp.isfinite(sr).all((1, 2, 3)).reshape(n, count).all(1)
    if keep_color:
        sr += _color_drift(flat, sr, flat_sizes, module.scale)
    if strength is not None:
        sr = strength * sr + (1 - strength) * _bicubic(flat, flat_sizes, module.scale)
    sr = from_planes(sr.reshape(n, count, *sr.shape[1:]), _unit(tiles), module).clip(0, 1)
    if dtype != "float32":
        sr = jnp.rint(sr * peak(dtype)).astype(dtype)
    return sr, finite


_seen_alone = jax.jit(_seen, static_argnums=(0, 3))


@partial(jax.jit, static_argnums=(0, 4), static_argnames=("ensemble", "keep_color", "dtype"))
def _joined(
    module: Any,
    tiles: jax.Array,
    sizes: jax.Array,
    results: list[jax.Array],
    border: str,
    strength: float | None,
    **options: Any,
) -> tuple[jax.Array, jax.Array]:
    sr = network.joined(module, results, tiles.shape[1], border)
    return _finished(module, tiles, sizes, sr, strength, **options)


def peak(dtype: Any) -> int:
    """The value that stands for 1 in a picture of that dtype."""
    dtype = np.dtype(dtype)
    return 1 if np.issubdtype(dtype, np.floating) else int(np.iinfo(dtype).max)


def result_bands(bands: int, module: Any) -> int:
    """Bands of a picture's result: as many, unless the network makes or takes away colour or alpha.

    Raises:
        InputError: The network takes or makes pictures of another kind.
    """
    channels, made = module.in_channels, module.out_channels
    if channels not in (1, 3, 4) or made not in (1, 3, 4):
        raise InputError(f"the network makes {made} channels of {channels}: not one of 1, 3 and 4")
    if channels == made == 1:  # band by band
        return bands
    gray = made == 1 or (bands < 3 and channels != 1)
    alpha = made == 4 if channels == 4 else bands in (2, 4) or made == 4
    if channels == 4 and bands in (1, 3):
        alpha = False
    return (1 if gray else 3) + alpha


def to_planes(lr: jax.Array, sizes: jax.Array, module: Any, step: float) -> jax.Array:
    """What the network is shown of a picture: (N, h, w, bands) -> (N, planes, h, w, in_channels).

    Alpha is a plane of its own, and the colours go on under what is transparent, see `_continued`.
    A network from one channel to one sees band by band, one of four all at once. `step` is that of
    the levels.
    """
    channels, has_alpha = module.in_channels, lr.shape[-1] in (2, 4)
    color, alpha = (lr[..., :-1], lr[..., -1:]) if has_alpha else (lr, None)
    if channels == 4:
        rgba = [_rgb(color), jnp.ones_like(lr[..., :1]) if alpha is None else alpha]
        return jnp.concatenate(rgba, -1)[:, None]
    planes = [color] if alpha is None else [_continued(color, alpha, sizes, step), alpha]
    if channels == module.out_channels == 1:
        return jnp.moveaxis(jnp.concatenate(planes, -1), -1, 1)[..., None]
    return jnp.stack([_gray(plane) if channels == 1 else _rgb(plane) for plane in planes], 1)


def from_planes(sr: jax.Array, lr: jax.Array, module: Any) -> jax.Array:
    """The picture of the network's results, the inverse of `to_planes`.

    Args:
        sr: (N, planes, H, W, out_channels).
        lr: (N, h, w, bands), what `to_planes` was given.
        module: The network.

    Returns:
        (N, H, W, `result_bands`), unclamped.
    """
    bands, channels = lr.shape[-1], module.in_channels
    separate = bands in (2, 4) and channels != 4
    if channels == module.out_channels == 1:
        color, alpha = jnp.moveaxis(sr[..., 0], 1, -1), None
        if separate:
            color, alpha = color[..., :-1], color[..., -1:]
    else:
        color = sr[:, 0, ..., :3]
        color = _gray(color) if bands < 3 and channels != 1 else color
        alpha = _gray(sr[:, 1, ..., :3]) if separate else sr[:, 0, ..., 3:]
        if channels == 4 and bands in (1, 3):
            alpha = alpha[..., :0]
    if separate:
        assert alpha is not None
        alpha = _clean(alpha, lr[..., -1:], module.scale)
    return color if alpha is None else jnp.concatenate([color, alpha], -1)


def _continued(color: jax.Array, alpha: jax.Array, sizes: jax.Array, step: float) -> jax.Array:
    """Colours as they are seen, and under what is not, those of what is seen around.

    What is hidden then bleeds nowhere, and the network sees no edge where colour ends but alpha
    does: sharpened each for itself, the two would not fit, and leave a fringe. Premultiplied
    means, of ever smaller surroundings; where nothing is seen within `CONTINUED` pixels, zero.
    """
    premultiplied, filled = color * alpha, jnp.zeros_like(color)
    for sigma in (8, 3, 1):
        around = _blur(alpha, sigma, CONTINUED)
        filled = (_blur(premultiplied, sigma, CONTINUED) + 1e-3 * filled) / (around + 1e-3)
    trust = (1 - alpha) * step  # in the fill: the colour of an alpha of few levels is rounded
    seen = (premultiplied + trust * filled) / (alpha + trust)
    height, width = color.shape[1:3]
    return jnp.where(inside(height, width, sizes[:, :1], sizes[:, 1:]), seen, 0)


def _clean(alpha: jax.Array, lr: jax.Array, scale: int) -> jax.Array:
    """Alpha that is one value all around a pixel stays that value: opaque is opaque, hidden hidden.

    It also makes the result of a tile with a single alpha known without computing it.
    """
    around = [(0, 0), (2, 2), (2, 2), (0, 0)]
    window = ((1, 5, 5, 1), (1, 1, 1, 1), around)
    highest = jax.lax.reduce_window(lr, -jnp.inf, jax.lax.max, *window)
    lowest = jax.lax.reduce_window(lr, jnp.inf, jax.lax.min, *window)
    enlarge = lambda x: x.repeat(scale, axis=1).repeat(scale, axis=2)  # noqa: E731
    return jnp.where(enlarge(highest == lowest), enlarge(lr), alpha)


def _rgb(x: jax.Array) -> jax.Array:
    return x if x.shape[-1] == 3 else x.repeat(3, axis=-1)


def _gray(x: jax.Array) -> jax.Array:
    if x.shape[-1] == 1:
        return x
    return sum(weight * x[..., i : i + 1] for i, weight in enumerate(LUMA))  # type: ignore[return-value]


TURNS = list(itertools.product((False, True), repeat=3))  # rows flipped, columns, transposed


def _turned(x: jax.Array, sizes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All eight flipped and transposed versions, in one batch, and their sizes."""
    inputs, input_sizes = [], []
    for rows, columns, transposed in TURNS:
        turned = _flipped(x, sizes, rows, columns)
        inputs.append(turned.swapaxes(1, 2) if transposed else turned)
        input_sizes.append(sizes[:, ::-1] if transposed else sizes)
    return jnp.concatenate(inputs), jnp.concatenate(input_sizes)


def _turned_back(results: jax.Array, sizes: jax.Array) -> jax.Array:
    """The mean of eight versions' results, of the sizes that they have before turning."""
    total = jnp.float32(0)
    parts = jnp.split(results, len(TURNS))
    for result, (rows, columns, transposed) in zip(parts, TURNS, strict=True):
        back = result.swapaxes(1, 2) if transposed else result
        total += _flipped(back, sizes, rows, columns)
    return total / len(TURNS)


def _flipped(x: jax.Array, sizes: jax.Array, rows: bool, columns: bool) -> jax.Array:
    """What is picture is flipped, and left in the corner."""
    indices = []
    for axis, flip in ((1, rows), (2, columns)):
        index = jnp.broadcast_to(jnp.arange(x.shape[axis]), (len(x), x.shape[axis]))
        size = sizes[:, axis - 1, None]
        indices.append(jnp.where(index < size, size - 1 - index, index) if flip else index)
    return take(x, *indices)


def _bicubic(x: jax.Array, sizes: jax.Array, scale: int) -> jax.Array:
    """MATLAB's bicubic enlargement, continued at each picture's own border."""
    reach = 3
    positions = [jnp.arange(-reach, x.shape[axis] + reach)[None] for axis in (1, 2)]
    indices = [continued(p, sizes[:, i : i + 1], "mirror") for i, p in enumerate(positions)]
    cut = reach * scale
    return resize(take(x, *indices), scale)[:, cut:-cut, cut:-cut]


def _color_drift(lr: jax.Array, sr: jax.Array, sizes: jax.Array, scale: int) -> jax.Array:
    """What is missing in the low frequencies of the result: (N, H, W, C)."""
    n, height, width, channels = lr.shape
    small = sr.reshape(n, height, scale, width, scale, channels).mean((2, 4))
    weight = inside(height, width, sizes[:, :1], sizes[:, 1:]).astype(jnp.float32)
    # Normalised by what is picture, so that nothing beyond the border takes part.
    blur = partial(_blur, sigma=COLOR_SIGMA, reach=COLOR_FIELD)
    low = blur((lr - small) * weight) / jnp.maximum(blur(weight), 1e-6)
    return jax.image.resize(low, (*sr.shape[:3], channels), "linear")


def _blur(x: jax.Array, sigma: float, reach: int) -> jax.Array:
    """Gaussian means of (N, H, W, C), cut off at `reach` pixels, with zeros beyond the array."""
    kernel = jnp.exp(-((jnp.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum()
    planes = jnp.moveaxis(x, -1, 0).reshape(-1, *x.shape[1:3], 1)
    tall, wide = (reach, reach), (0, 0)
    for shape, pads in (((-1, 1, 1, 1), (tall, wide)), ((1, -1, 1, 1), (wide, tall))):
        planes = jax.lax.conv_general_dilated(
            planes,
            kernel.reshape(shape),
            (1, 1),
            pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
    return jnp.moveaxis(planes.reshape(x.shape[-1], *x.shape[:3]), 0, -1)
