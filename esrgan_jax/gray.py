"""RGB images as gray ones."""

import jax

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def to_gray(image: jax.Array) -> jax.Array:
    """Returns the luma of (..., 3) images as (..., 1); images of one channel as they are."""
    if image.shape[-1] == 1:
        return image
    red, green, blue = (image[..., i : i + 1] for i in range(3))
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
