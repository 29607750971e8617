"""JAX arrays are upscaled on their device and give exactly the results of NumPy arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscaling.upscaler import Upscaler


def network(**fields):
    module = RRDBNet(**{"num_features": 4, "num_growth": 2, "num_blocks": 1, "scale": 2, **fields})
    lr = jnp.zeros((1, 8, 8, module.in_channels))
    return module, jax.jit(module.init)(jax.random.key(0), lr)


@pytest.fixture(scope="module")
def plain():
    return network()


@pytest.fixture
def fetched(monkeypatch):
    """Returns a list of the sizes of arrays copied to the host; large copies fail the test."""
    sizes, device_get = [], jax.device_get

    def get(tree):
        sizes.extend(leaf.size for leaf in jax.tree.leaves(tree))
        return device_get(tree)

    def refuse(array, *_, **__):
        raise AssertionError("a copy of an image to the host")

    monkeypatch.setattr(jax, "device_get", get)
    for name in ("asarray", "array", "concatenate"):
        function = getattr(np, name)

        def checked(x, *args, function=function, **kwargs):
            if isinstance(x, jax.Array) and x.size > 16:
                refuse(x)
            return function(x, *args, **kwargs)

        monkeypatch.setattr(np, name, checked)
    return sizes


TILES = {"tile": 32, "overlap": 8}


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((20, 24, 3), "uint8", {}),
        ((20, 24), "uint16", {}),
        ((50, 70, 3), "uint8", TILES),
        pytest.param((50, 40, 4), "float32", TILES, marks=pytest.mark.slow),
        ((50, 70, 3), "bfloat16", {**TILES, "seamless": "wrap"}),
        ((40, 40, 3), "uint8", {**TILES, "ensemble": True, "strength": 0.5}),
    ],
)
@pytest.mark.parametrize("devices", [1, 8])
def test_results_equal_those_of_numpy_arrays(rng, plain, shape, dtype, options, devices, fetched):
    peak = np.iinfo(dtype).max if dtype.startswith("uint") else 1
    image = (rng.uniform(0, 1, shape) * peak).astype(jnp.dtype(dtype))
    upscaler = Upscaler(*plain, devices=jax.devices()[:devices], **options)
    expected = upscaler(image)
    fetched.clear()
    on_device = jax.device_put(image, jax.devices()[2])
    result = upscaler(on_device)
    assert max(fetched) <= 8  # only flags and scalars
    assert result.devices() == on_device.devices()
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(jax.device_get(result), expected)


def test_constant_alpha_and_lists_of_images(rng, plain, fetched):
    """A list of an opaque, a half transparent and a partly transparent image of two sizes."""
    images = [rng.integers(0, 256, (40, side, 4), dtype=np.uint8) for side in (40, 20, 40)]
    images[0][..., 3], images[1][..., 3], images[2][:, :30, 3] = 255, 128, 0
    upscaler = Upscaler(*plain, devices=jax.devices()[:1], tile=32, overlap=8)
    done, expected_done = [], []
    expected = upscaler(images, progress=expected_done.append)
    fetched.clear()
    results = upscaler([jnp.array(image) for image in images], progress=done.append)
    assert max(fetched) == 1
    assert sum(done) == sum(expected_done) == sum(result[..., 0].size for result in expected)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(jax.device_get(result), wanted)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 7, 3), (33, 35, 3)])
def test_a_network_with_unshuffle_takes_any_size(rng, shape):
    upscaler = Upscaler(*network(unshuffle=2), devices=jax.devices()[:1], tile=32, overlap=8)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(upscaler(jnp.asarray(image)), upscaler(image))


def test_other_scales_and_chains_return_jax_arrays(rng, plain):
    image = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    chain = Upscaler(*plain, devices=jax.devices()[:1], then=Upscaler(*plain))
    for upscaler, options in ((chain, {}), (Upscaler(*plain), {"scale": 1.5})):
        result = upscaler(jnp.asarray(image), **options)
        assert isinstance(result, jax.Array)
        np.testing.assert_array_equal(result, upscaler(image, **options))


def test_values_out_of_range_and_tracers_are_refused(plain):
    module, variables = plain
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), variables)
    with pytest.raises(RunError, match="not finite"):
        Upscaler(module, broken)(jnp.zeros((8, 8, 3)))
    upscaler = Upscaler(module, variables)
    with pytest.raises(InputError, match=r"values from 0 to 2"):
        upscaler(jnp.zeros((8, 8, 3)).at[0, 0].set(2))
    with pytest.raises(InputError, match=r"module\.apply\(variables, lr\)"):
        jax.jit(upscaler)(jnp.zeros((8, 8, 3)))
