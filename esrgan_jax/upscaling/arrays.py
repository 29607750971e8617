"""Converts between arrays of NumPy and JAX, Pillow images, and the upscaler's form."""

from typing import TYPE_CHECKING, Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from esrgan_jax.errors import InputError
from esrgan_jax.upscaling.strips import Strips

if TYPE_CHECKING:
    from PIL.Image import Image

OTHER_COLORS = ("CMYK", "YCbCr", "LAB", "HSV")  # Pillow's modes whose profile is not that of RGB


def checked_array(image: object) -> np.ndarray | jax.Array:
    """Returns an image as (H, W, bands), 1 to 4 bands, uint8, uint16 or float32 in [0, 1].

    JAX arrays stay on their device; others become NumPy arrays.

    Args:
        image: A NumPy or JAX array (H, W) or (H, W, bands), or a Pillow image, which is
            turned upright and converted to RGB or gray if it has a palette, bits or CMYK.

    Raises:
        InputError: The dtype, the shape or the range is not one of these.
    """
    if _is_pillow(image):
        return _from_pillow(image)
    if isinstance(image, Tracer):
        raise InputError(
            "an Upscaler works on values, not inside jax.jit or jax.grad; apply the generator "
            "there: module.apply(variables, lr), see docs/python.md"
        )
    array = image if isinstance(image, jax.Array) else np.asarray(image)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            "an image has shape (height, width) or (height, width, channels), "
            f"got {array.shape}; give several as a list"
        )
    array = array[..., None] if array.ndim == 2 else array
    if not 1 <= array.shape[2] <= 4:
        raise InputError(
            f"an image has 1 to 4 channels, the last axis, got {array.shape[2]} of {array.shape}"
        )
    if array.dtype.name in ("uint8", "uint16"):
        return array
    if not is_float(array.dtype):
        raise InputError(f"an image is uint8, uint16 or float, got {array.dtype}; convert it")
    low, high = (float(value) for value in jax.device_get((array.min(), array.max())))
    slack = max(1e-5, float(jnp.finfo(array.dtype).eps))  # the rounding error of a computed 1
    if not (low >= -slack and high <= 1 + slack):  # false for NaN too
        raise InputError(
            f"a float image has values in [0, 1], got values from {low:g} to {high:g}; "
            "divide by its white or clip it"
        )
    return array.astype(np.float32).clip(0, 1)


def to_strips(array: np.ndarray | jax.Array, result_size: tuple[int, int] | None) -> Strips:
    """Returns an array of `checked_array` as one strip; `result_size` as in `Strips`."""
    return Strips(
        *array.shape,
        dtype=array.dtype,
        rows=iter([np.asarray(array)]),
        result_dtype=array.dtype,
        result_size=result_size,
    )


def like_source(result: Any, source: Any) -> Any:
    """Returns a result as the type and dtype of its source, the argument of `checked_array`."""
    if _is_pillow(source):
        from PIL import Image

        if result.dtype == np.uint16:
            return Image.fromarray(result[..., 0])
        image = Image.fromarray(result.squeeze(-1) if result.shape[-1] == 1 else result)
        profile = source.info.get("icc_profile")
        if profile and source.mode not in OTHER_COLORS:
            image.info["icc_profile"] = profile
        return image
    source = source if isinstance(source, jax.Array) else np.asarray(source)
    result = result.astype(source.dtype)
    result = result[..., 0] if source.ndim == 2 and result.shape[-1] == 1 else result
    if isinstance(source, np.ndarray):
        return result
    return jnp.asarray(result)


def is_float(dtype: np.dtype) -> bool:
    """Whether a dtype is of floating point, bfloat16 included."""
    return jnp.issubdtype(dtype, jnp.floating)


def _is_pillow(image: object) -> "TypeGuard[Image]":
    return hasattr(image, "getbands") and hasattr(image, "convert")


def _from_pillow(image: "Image") -> np.ndarray:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode in ("I", "F"):
        raise InputError(
            f"a Pillow image of mode {image.mode} has no defined range: "
            "give it as an array, uint16 or float in [0, 1]"
        )
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    array = np.asarray(image.convert(mode + "A" * image.has_transparency_data))
    return array[..., None] if array.ndim == 2 else array
