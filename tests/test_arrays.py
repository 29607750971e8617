"""NumPy, JAX and Pillow images are returned enlarged, as the same type as was given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from esrgan_jax.errors import InputError
from esrgan_jax.models.generator import Generator
from esrgan_jax.upscaling.arrays import checked_array, like_source
from esrgan_jax.upscaling.upscaler import Upscaler


class Double(nn.Module, Generator):
    scale: int = 2
    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    def __call__(self, lr):
        return lr.repeat(2, axis=1).repeat(2, axis=2)


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(Double(), {}, devices=jax.devices()[:1])


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 2), (6, 5, 3), (6, 5, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_arrays_keep_their_library_dtype_and_channels(upscaler, rng, shape, dtype, kind):
    if dtype == "float64" and kind == "jax":
        pytest.skip("JAX has no float64 here")
    peak = np.iinfo(dtype).max if dtype.startswith("uint") else 1
    image = (rng.uniform(0.5, 1, shape) * peak).astype(jnp.dtype(dtype))
    given = jnp.asarray(image) if kind == "jax" else image
    result = upscaler(given)
    assert isinstance(result, jax.Array if kind == "jax" else np.ndarray)
    assert result.dtype == image.dtype
    assert result.shape == (12, 10, *shape[2:])
    expected = image.repeat(2, axis=0).repeat(2, axis=1).astype(float)
    # Dividing by alpha and rounding may lose a level; test_alpha.py tests alpha.
    channels = np.s_[..., :-1] if shape[2:] in ((2,), (4,)) else np.s_[:]
    difference = np.asarray(result).astype(float) - expected
    assert np.abs(difference[channels]).max() <= peak * 5e-3


MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB",
         "I;16": "I;16"}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_pillow_images_are_returned_as_pillow_images(upscaler, rng, mode):
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (6, 5), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).convert(mode)
    image.info["icc_profile"] = b"a profile"
    result = upscaler(image)
    assert isinstance(result, Image.Image)
    assert result.mode == MODES[mode]
    assert result.size == (10, 12)
    if mode in ("L", "RGB", "I;16"):
        np.testing.assert_array_equal(
            np.asarray(result), np.asarray(image).repeat(2, axis=0).repeat(2, axis=1)
        )
        assert mode == "I;16" or result.info["icc_profile"] == b"a profile"
    if mode == "CMYK":  # the profile is not that of the result
        assert "icc_profile" not in result.info


@pytest.mark.parametrize(("mode", "value", "bands"), [("L", 7, 2), ("RGB", (7, 8, 9), 4)])
def test_a_transparent_colour_becomes_alpha(upscaler, mode, value, bands):
    image = Image.new(mode, (4, 4))
    image.paste(value, (0, 0, 2, 4))
    image.info["transparency"] = value
    result = np.asarray(upscaler(image))
    assert result.shape == (8, 8, bands)
    assert (result[0, 0, -1], result[0, -1, -1]) == (0, 255)


def test_other_arrays_are_taken_as_numpy_arrays(upscaler, rng):
    class Tensor:
        dtype = "its own"

        def __array__(self, dtype=None, copy=None):
            return array

    array = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(upscaler(Tensor()), upscaler(array))


def test_a_palette_image_keeps_its_transparency(upscaler):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.info["transparency"] = 0
    image.putpixel((1, 1), 1)
    result = np.asarray(upscaler(image))
    assert result.shape == (8, 8, 4)
    assert result[0, 0, 3] == 2  # bicubic at the corner of a single opaque pixel: 0.0938² of 255
    assert tuple(result[3, 3, :3]) == (0, 255, 0)
    assert result[3, 3, 3] == 192  # bicubic inside a single opaque pixel: 0.867² of 255


def test_exif_orientation_is_applied(upscaler):
    image = Image.new("RGB", (6, 4))
    image.getexif()[0x0112] = 6
    assert upscaler(image).size == (8, 12)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pillow_modes_without_a_white_level_are_refused(mode):
    with pytest.raises(InputError, match=f"mode {mode} has no defined range"):
        checked_array(Image.new(mode, (4, 4)))


def test_a_list_of_images_keeps_the_type_of_each(upscaler, rng):
    array = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    results = upscaler([array, Image.fromarray(array[:3]), jnp.asarray(array[..., 0])])
    assert [type(result).__name__ for result in results] == ["ndarray", "Image", "ArrayImpl"]
    assert upscaler([]) == []
    assert isinstance(upscaler((array,)), list)


def test_like_source_keeps_a_channel_axis_of_one():
    assert like_source(np.zeros((4, 4, 1), np.uint8), np.zeros((2, 2, 1), np.uint8)).ndim == 3


@pytest.mark.parametrize("library", [np, jnp])
def test_values_slightly_out_of_range_are_clipped_and_others_refused(upscaler, library):
    image = np.zeros((4, 4, 3), np.float32)
    image[:2], image[2:] = np.nextafter(np.float32(1), np.float32(2)), -1e-7
    result = np.asarray(upscaler(library.asarray(image)))
    np.testing.assert_array_equal(result, np.asarray(upscaler(library.asarray(image.clip(0, 1)))))
    with pytest.raises(InputError, match=r"got values from 0 to 1\.001"):
        upscaler(library.asarray(image.clip(0, 1) * np.float32(1.001)))
