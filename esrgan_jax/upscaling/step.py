"""The step of upscaling: LR tiles to SR tiles on the device, a pure function."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.data.resize import resize
from esrgan_jax.errors import InputError
from esrgan_jax.models.borders import borders, continued, inside, take
from esrgan_jax.models.rrdb import TAIL_FIELD
from esrgan_jax.upscaling.tiles import spans

PART = 32  # rows of features that are enlarged at a time
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
    lr = tiles.astype(jnp.float32) / peak(tiles.dtype)
    step = 1 / 255 if tiles.dtype == jnp.uint8 else 1 / 65535
    planes = to_planes(lr, sizes, module, step)
    n, count, height, width, channels = planes.shape
    flat = planes.reshape(n * count, height, width, channels)
    flat_sizes = sizes.repeat(count, axis=0)
    network = partial(_network, module, variables, border=border, whole=whole)
    sr = (_ensemble(network, module.scale) if ensemble else network)(flat, flat_sizes)
    finite = jnp.isfinite(sr).all((1, 2, 3)).reshape(n, count).all(1)
    if keep_color:
        sr += _color_drift(flat, sr, flat_sizes, module.scale)
    if strength is not None:
        sr = strength * sr + (1 - strength) * _bicubic(flat, flat_sizes, module.scale)
    sr = from_planes(sr.reshape(n, count, *sr.shape[1:]), lr, module).clip(0, 1)
    if dtype != "float32":
        sr = jnp.rint(sr * peak(dtype)).astype(dtype)
    return sr, finite


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


def _network(
    module: Any, variables: Any, x: jax.Array, sizes: jax.Array, *, border: str, whole: bool
) -> jax.Array:
    """The network's result, its enlarging half done some rows at a time where it can be.

    Feature maps at the size of the result are most of the memory, and they see just `TAIL_FIELD`
    pixels. In a wrapped picture the first rows need the last, so it is done whole.
    """
    height, width = x.shape[1:3]
    rows = height // getattr(module, "unshuffle", 1)
    if whole or not hasattr(module, "tail") or rows <= 2 * PART or border == "wrap":
        with borders(sizes, height, width, border):
            return module.apply(variables, x)
    with borders(sizes, height, width, border):
        features = module.apply(variables, x, method="trunk")
    sizes = sizes * rows // height
    length = PART + 2 * TAIL_FIELD
    parts = spans(rows, length, 2 * TAIL_FIELD)

    def tail(start: jax.Array) -> jax.Array:
        part = jax.lax.dynamic_slice_in_dim(features, start, length, axis=1)
        left = jnp.stack([(sizes[:, 0] - start).clip(0, length), sizes[:, 1]], axis=1)
        with borders(left, length, part.shape[2], border):
            return module.apply(variables, part, method="tail")

    results = jax.lax.map(tail, jnp.array([part.start for part in parts]))
    factor = module.scale * height // rows
    kept = [
        result[:, (part.keep_start - part.start) * factor : (part.keep_end - part.start) * factor]
        for result, part in zip(results, parts, strict=True)
    ]
    return jnp.concatenate(kept, axis=1)


def _ensemble(network: Any, scale: int) -> Any:
    """The network's mean over flips and transpositions, undone; all versions in one batch."""
    turns = list(itertools.product((False, True), repeat=3))

    def flipped(x: jax.Array, sizes: jax.Array, rows: bool, columns: bool) -> jax.Array:
        """What is picture is flipped, and left in the corner."""
        indices = []
        for axis, flip in ((1, rows), (2, columns)):
            index = jnp.broadcast_to(jnp.arange(x.shape[axis]), (len(x), x.shape[axis]))
            size = sizes[:, axis - 1, None]
            indices.append(jnp.where(index < size, size - 1 - index, index) if flip else index)
        return take(x, *indices)

    def mean(x: jax.Array, sizes: jax.Array) -> jax.Array:
        inputs, input_sizes = [], []
        for rows, columns, transposed in turns:
            turned = flipped(x, sizes, rows, columns)
            inputs.append(turned.swapaxes(1, 2) if transposed else turned)
            input_sizes.append(sizes[:, ::-1] if transposed else sizes)
        results = network(jnp.concatenate(inputs), jnp.concatenate(input_sizes))
        total = jnp.float32(0)
        for result, (rows, columns, transposed) in zip(
            jnp.split(results, len(turns)), turns, strict=True
        ):
            back = result.swapaxes(1, 2) if transposed else result
            total += flipped(back, sizes * scale, rows, columns)
        return total / len(turns)

    return mean


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
