"""Random degradations of a batch depend on the seed, the step and the image's number alone."""

import functools
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax import sharding
from esrgan_jax.degradation.degrade import degrade
from esrgan_jax.degradation.recipe import Recipe, degraded, image_keys
from esrgan_jax.degradation.sharpen import sharpen
from esrgan_jax.training import steps
from tests.degradations import averaged, blurred

SCALE, PATCH, MARGIN, BATCH = 2, 32, 8, 8
SIDE = PATCH + 2 * MARGIN
# What tests/conftest.py switches off.
OPTIMISED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
if version("jaxlib").startswith("0.10."):
    OPTIMISED["xla_cpu_use_fusion_emitters"] = True


@pytest.fixture(scope="module")
def hr() -> np.ndarray:
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    hr[..., 1:] = np.stack(np.mgrid[:SIDE, :SIDE], axis=-1)  # the place, in green and blue
    return hr


def recipe(function=blurred) -> Recipe:
    return Recipe(function, MARGIN, seed=3)


def of_step(hr, step=0, function=blurred, unsharp=(), devices=None):
    mesh = devices and sharding.create_mesh(jax.devices()[:devices])
    batch = steps.keyed({"hr": hr}, recipe(function), step)
    return steps.images(batch, SCALE, recipe(function), unsharp, mesh)


jit = functools.partial(jax.jit, static_argnames=("function", "unsharp", "devices"))
images = jit(of_step)


def test_lr_and_hr_are_crops_of_one_place_that_varies_over_the_grid(hr):
    seen = set()
    for step in range(12):
        lr, target = images(hr, step, function=averaged)
        patch = np.round(np.asarray(target["pixel"]) * 255).astype(int)
        assert lr.shape == (BATCH, PATCH // SCALE, PATCH // SCALE, 3)
        for whole, part in zip(hr, patch, strict=True):
            top, left = part[0, 0, 1:]
            seen |= {(0, int(top)), (1, int(left))}
            np.testing.assert_array_equal(part, whole[top : top + PATCH, left : left + PATCH])
        mean = patch.reshape(BATCH, PATCH // 2, 2, PATCH // 2, 2, 3).mean((2, 4))
        levels = np.asarray(lr) * 255
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)  # rounded to 8 bits
        assert np.abs(levels - mean).max() <= 0.5001
    assert seen == {(axis, place) for axis in (0, 1) for place in range(0, 2 * MARGIN + 1, SCALE)}


def test_every_image_and_step_has_a_key_of_its_own():
    keys = [image_keys(seed, step, 6) for seed in (0, 1) for step in (0, 1)]
    assert len(np.unique(np.concatenate([jax.random.key_data(k) for k in keys]), axis=0)) == 24
    assert (image_keys(0, 1, 4) == keys[1][:4]).all()


@pytest.mark.parametrize("function", [blurred, pytest.param(degrade, marks=pytest.mark.slow)])
def test_bits_do_not_depend_on_the_number_of_devices(hr, function):
    # With optimisations, as these decide which operations are combined.
    images = jit(of_step, compiler_options=OPTIMISED)
    for step in (5, 17):
        results = []
        for devices in (1, 2, 8):
            mesh = sharding.create_mesh(jax.devices()[:devices])
            placed = sharding.put_batch({"hr": hr}, mesh)["hr"]
            seen = images(placed, step, function, ("pixel",), devices=devices)
            results.append(jax.device_get(seen))
        expected, *others = results
        assert len(np.unique(expected[0].std(axis=(1, 2, 3)))) == BATCH
        for seen in others:
            jax.tree.map(np.testing.assert_array_equal, seen, expected)


def test_accumulation_does_not_change_what_an_image_gets(hr):
    """Each part adds the LR of its images at their places in the batch."""
    whole, _ = images(hr, 2)

    @jax.jit
    def gradients(seen, batch):
        lr, _ = steps.images(batch, SCALE, recipe())
        return seen, jnp.zeros((BATCH, *lr.shape[1:])).at[batch["place"]].add(lr)

    batch = steps.keyed({"hr": hr, "place": np.arange(BATCH)}, recipe(), jnp.int32(2))
    _, total = steps.accumulate(gradients, {}, batch, 4)
    np.testing.assert_allclose(total * 4, whole, atol=1e-6)


def test_unsharp_losses_compare_with_sharpened_images(hr):
    lr, target = images(hr, function=averaged, unsharp=("pixel", "gan"))
    plain, same = images(hr, function=averaged)
    assert np.abs(lr - plain).max() > 0.1  # LR is made of the sharpened image
    np.testing.assert_array_equal(target["perceptual"], same["perceptual"])
    np.testing.assert_array_equal(target["pixel"], target["gan"])
    whole = np.asarray(sharpen(jnp.asarray(hr[0] / np.float32(255))))
    top, left = np.round(np.asarray(target["perceptual"])[0, 0, 0, 1:] * 255).astype(int)
    expected = whole[top : top + PATCH, left : left + PATCH]
    np.testing.assert_allclose(target["pixel"][0], expected, atol=1e-5)


def test_pairs_and_bicubic_have_sharpened_targets_but_the_same_lr(rng):
    pair = {"lr": rng.integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)}
    pair["hr"] = rng.integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    lr, target = steps.images(pair, SCALE, unsharp=("pixel",))
    np.testing.assert_array_equal(lr, pair["lr"] / np.float32(255))
    np.testing.assert_allclose(target["pixel"], sharpen(target["gan"]), atol=1e-6)


def test_degraded_without_a_mesh_is_that_of_one_image(hr):
    keys = image_keys(0, 0, BATCH)
    lr, *_ = degraded(recipe(), keys, hr, SCALE)
    one, *_ = degraded(recipe(), keys[3:4], hr[3:4], SCALE)
    np.testing.assert_array_equal(lr[3:4], one)
