"""Types that a type checker infers for `Upscaler`; `make lint` checks this file with pyright."""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from esrgan_jax import Upscaler


def upscaled(
    upscaler: Upscaler, array: NDArray[np.uint8], on_device: jax.Array, image: Image.Image
) -> list[Any]:
    return [
        assert_type(upscaler(array), NDArray[np.uint8]),
        assert_type(upscaler(on_device, scale=1.5), jax.Array),
        assert_type(upscaler(image, size=(8, 8)), Image.Image),
        assert_type(upscaler([array]), list[NDArray[np.uint8]]),
        assert_type(upscaler((on_device,)), list[jax.Array]),
        assert_type(upscaler([image]), list[Image.Image]),
        assert_type(upscaler([array, image]), list[Any]),
    ]


def test_results_have_the_declared_types(bicubic: Upscaler):
    array = np.full((4, 4, 3), 128, np.uint8)
    one, two, three, *lists = upscaled(bicubic, array, jnp.asarray(array), Image.fromarray(array))
    kinds = [np.ndarray, jax.Array, Image.Image]
    for result, kind in zip((one, two, three), kinds, strict=True):
        assert isinstance(result, kind)
    for results, kind in zip(lists, [*kinds, np.ndarray], strict=True):
        assert isinstance(results, list)
        assert isinstance(results[0], kind)
