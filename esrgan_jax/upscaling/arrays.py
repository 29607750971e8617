"""Pictures in memory: NumPy, JAX and Pillow, brought to one form and back."""

from typing import Any

import numpy as np

from esrgan_jax.errors import InputError

PILLOW_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


def to_array(image: Any) -> np.ndarray:
    """A picture as (H, W, bands), 1 to 4 bands, uint8, uint16 or float32 in [0, 1].

    Args:
        image: A NumPy or JAX array (H, W) or (H, W, bands), or a Pillow image: upright, its
            palette, bits and CMYK converted to RGB or gray.

    Raises:
        InputError: The dtype, the shape or the range is another.
    """
    if _is_pillow(image):
        return _from_pillow(image)
    array = np.asarray(image)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise InputError(
            "a picture has shape (height, width) or (height, width, channels), "
            f"got {array.shape}; give several as a list"
        )
    array = array[..., None] if array.ndim == 2 else array
    if not 1 <= array.shape[2] <= 4:
        raise InputError(
            f"a picture has 1 to 4 channels, the last axis, got {array.shape[2]} of {array.shape}"
        )
    if array.dtype in (np.uint8, np.uint16):
        return array
    if not is_float(array.dtype):
        raise InputError(f"a picture is uint8, uint16 or float, got {array.dtype}; convert it")
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):  # false for NaN as well
        raise InputError(
            f"a float picture lies in [0, 1], got values from {low:g} to {high:g}; "
            "divide by its white or clip it"
        )
    return array.astype(np.float32)


def from_array(result: np.ndarray, source: Any) -> Any:
    """The result in the form of the picture that `to_array` was given."""
    if _is_pillow(source):
        from PIL import Image

        if result.dtype == np.uint16:
            return Image.fromarray(result[..., 0])
        image = Image.fromarray(result.squeeze(-1) if result.shape[-1] == 1 else result)
        if profile := source.info.get("icc_profile"):
            image.info["icc_profile"] = profile
        return image
    result = result.astype(source.dtype)
    result = result[..., 0] if source.ndim == 2 and result.shape[-1] == 1 else result
    if isinstance(source, np.ndarray):
        return result
    import jax.numpy as jnp

    return jnp.asarray(result)


def is_float(dtype: Any) -> bool:
    """Whether it is a floating-point dtype, bfloat16 among them."""
    import jax.numpy as jnp

    return jnp.issubdtype(dtype, jnp.floating)


def _is_pillow(image: Any) -> bool:
    return hasattr(image, "getbands") and hasattr(image, "convert")


def _from_pillow(image: Any) -> np.ndarray:
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode in ("I", "F"):
        raise InputError(
            f"a Pillow image of mode {image.mode} has no known white: "
            "give it as an array, uint16 or float in [0, 1]"
        )
    if image.mode not in PILLOW_MODES.values():
        transparent = image.has_transparency_data
        gray = image.mode == "1"
        image = image.convert(("LA" if gray else "RGBA") if transparent else "L" if gray else "RGB")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
