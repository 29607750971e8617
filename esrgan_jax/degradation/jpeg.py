"""What an image looks like after it was saved as JPEG and read again, on the device.

The steps are those of libjpeg with its usual settings: chroma 4:2:0 by averaging, the tables of
ITU-T T.81, annex K, scaled by the quality, and interpolated ("fancy") chroma when decoding. The
transforms are computed in float32 and rounded where libjpeg rounds. DiffJPEG, which Real-ESRGAN
uses (basicsr/utils/diffjpeg.py), has no whole levels and repeats chroma.
"""

import jax
import jax.numpy as jnp
import numpy as np

LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
Scalar = jax.Array | float | int


def jpeg(
    image: jax.Array,
    quality: Scalar,
    height: Scalar | None = None,
    width: Scalar | None = None,
) -> jax.Array:
    """Compresses an image as JPEG, and returns what a decoder makes of it.

    Args:
        image: (H, W, 3) float RGB in [0, 1], H and W multiples of 16; rounded to 8 bits first.
        quality: 1 to 100 as in libjpeg, rounded to a whole number; can be traced.
        height: The rows of the image, from the top, of 1 to H; the rest of the canvas is ignored.
            None takes all. Can be traced.
        width: The same for columns. Below 5, libjpeg does not interpolate chroma; this does.

    Returns:
        (H, W, 3) float32: multiples of 1/255. What is outside `height` and `width` has no meaning.
    """
    rows, columns, _ = image.shape
    if rows % 16 or columns % 16:
        raise ValueError(f"image is {image.shape}: its sides must be multiples of 16")
    height = jnp.asarray(rows if height is None else height, jnp.int32)
    width = jnp.asarray(columns if width is None else width, jnp.int32)
    level = _extend(_rounded(jnp.clip(image, 0, 1) * 255), height, width)
    red, green, blue = jnp.moveaxis(level, -1, 0)
    # Libjpeg's 16 bits after the point: these sums are exact in float32. Halves of chroma go down.
    luma = _rounded((19595 * red + 38470 * green + 7471 * blue) / 65536)
    chroma = [
        -11058 * red - 21710 * green + 32768 * blue,
        32768 * red - 27439 * green - 5329 * blue,
    ]
    chroma = jnp.ceil(jnp.stack(chroma, axis=-1) / 65536 - 0.5) + 128
    # Beyond the last row libjpeg repeats averaged chroma, beyond the last column the image.
    half_height, half_width = (height + 1) // 2, (width + 1) // 2
    chroma = _extend(_halved(chroma), half_height, columns // 2)
    luma = _coded(luma[..., None], _table(LUMA, quality))[..., 0]
    chroma = _extend(_coded(chroma, _table(CHROMA, quality)), half_height, half_width)
    cb, cr = jnp.moveaxis(_doubled(chroma) - 128, -1, 0)
    added = jnp.stack([91881 * cr, -22554 * cb - 46802 * cr, 116130 * cb], axis=-1)
    decoded = luma[..., None] + _rounded(added / 65536)
    return jnp.clip(decoded, 0, 255) / 255


def _extend(image: jax.Array, height: Scalar, width: Scalar) -> jax.Array:
    """Repeats the last of `height` rows and of `width` columns to the end of the canvas."""
    rows, columns, _ = image.shape
    image = image[jnp.minimum(jnp.arange(rows), height - 1)]
    return image[:, jnp.minimum(jnp.arange(columns), width - 1)]


def _halved(chroma: jax.Array) -> jax.Array:
    """Averages squares of four samples; libjpeg rounds halves down and up in turns."""
    rows, columns, channels = chroma.shape
    total = chroma.reshape(rows // 2, 2, columns // 2, 2, channels).sum((1, 3))
    turns = jnp.arange(columns // 2)[None, :, None] % 2
    return jnp.floor((total + 1 + turns) / 4)


def _doubled(chroma: jax.Array) -> jax.Array:
    """Enlarges by a triangle filter: each sample is 9/16 the nearest, 3/16, 3/16 and 1/16."""

    def along(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        before = jnp.concatenate([x[:1], x[:-1]])
        after = jnp.concatenate([x[1:], x[-1:]])
        return 3 * x + before, 3 * x + after

    rows, columns, channels = chroma.shape
    tall = jnp.stack(along(chroma), axis=1).reshape(2 * rows, columns, channels)
    left, right = along(tall.swapaxes(0, 1))
    wide = jnp.floor(jnp.stack([left + 8, right + 7], axis=1) / 16)
    return wide.reshape(2 * columns, 2 * rows, channels).swapaxes(0, 1)


def _coded(planes: jax.Array, table: jax.Array) -> jax.Array:
    """Transforms blocks of 8 x 8 levels, quantises them by a table, and transforms them back.

    Rounds where libjpeg's "islow" rounds: after each pass, to quarters, and at the end to eighths.
    Without that, one block in ten has another coefficient.
    """
    rows, columns, channels = planes.shape

    def transform(equation: str, blocks: jax.Array, factor: float) -> jax.Array:
        return _rounded(factor * jnp.einsum(equation, DCT, blocks, precision="highest"))

    blocks = planes.reshape(rows // 8, 8, columns // 8, 8, channels) - 128
    eighths = transform("ui,aibvc->aubvc", transform("vj,aibjc->aibvc", blocks, 4), 1 / 4)
    steps = table[None, :, None, :, None]
    # The 2**-12 makes halves go up, however the product is rounded. Other quotients are at least
    # 1/2040 from a half.
    whole = jnp.floor(jnp.abs(eighths) * (1 / (8 * steps)) + (0.5 + 2**-12))
    quantised = jnp.sign(eighths) * whole * steps
    blocks = transform("vj,aibvc->aibjc", transform("ui,aubvc->aibvc", quantised, 4), 1 / 32)
    return jnp.clip(blocks + 128, 0, 255).reshape(planes.shape)


def _table(base: tuple[tuple[int, ...], ...], quality: Scalar) -> jax.Array:
    """Scales a table as libjpeg's `jpeg_quality_scaling` does, in integers."""
    whole = jnp.clip(_rounded(jnp.asarray(quality, jnp.float32)), 1, 100).astype(jnp.int32)
    percent = jnp.where(whole < 50, 5000 // whole, 200 - 2 * whole)
    return jnp.clip((jnp.array(base) * percent + 50) // 100, 1, 255).astype(jnp.float32)


def _rounded(x: jax.Array) -> jax.Array:
    return jnp.floor(x + 0.5)


def _dct() -> np.ndarray:
    """Returns the (8, 8) matrix of the discrete cosine transform times the root of 8."""
    u, i = np.mgrid[:8, :8]
    matrix = np.cos((2 * i + 1) * u * np.pi / 16) * np.sqrt(2)
    matrix[0] = 1
    return matrix.astype(np.float32)


DCT = _dct()
