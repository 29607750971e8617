"""Losses against formulas in float64, and RaGAN's gradients against finite differences."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax import sharding
from esrgan_jax.training import losses

# Logits of HR and of SR. Means of large logits are whole numbers, so they are exact in float32:
# beyond 30 the loss is e^-x, whose relative error is the absolute error of x.
LOGITS = {
    "ordinary": ([0.3, -1.2, 2.0, 0.7, -0.1], [-0.4, 1.1, 0.2, -2.2, 0.9]),
    "apart": ([30.0, 41.0, 25.0, 33.0, 31.0], [-30.0, -22.0, -41.0, -35.0, -27.0]),
    "wrong way round": ([-30.0, -41.0, -25.0, -33.0, -31.0], [30.0, 22.0, 41.0, 35.0, 27.0]),
    "huge": ([1000.0, -1000.0, 1000.0, 0.0, 3.0], [-1000.0, 1000.0, 1000.0, 0.0, -3.0]),
    "all huge": ([-1000.0] * 5, [1000.0] * 5),
}


@pytest.fixture(params=LOGITS, ids=lambda name: name.replace(" ", "_"))
def logits(request):
    """Returns logits of HR and of SR, each (5, 1) float64."""
    return tuple(np.array(values)[:, None] for values in LOGITS[request.param])


def bce(logits, target):
    """Returns the mean binary cross entropy of logits for a target of 0 or 1."""
    return np.mean(np.logaddexp(0, -logits if target else logits))


def float32(*arrays) -> Any:
    return [jnp.asarray(array, jnp.float32) for array in arrays]


@pytest.mark.parametrize("norm", ["l1", "mse"])
def test_pixel_loss_equals_numpy(norm, rng):
    sr, hr = rng.uniform(-0.5, 1.5, (2, 3, 8, 8, 3))
    expected = np.mean(np.abs(sr - hr) if norm == "l1" else (sr - hr) ** 2)
    np.testing.assert_allclose(losses.pixel_loss(*float32(sr, hr), norm=norm), expected, rtol=1e-6)


def test_pixel_loss_of_bfloat16_is_summed_in_float32(rng):
    sr, hr = rng.random((2, 4, 32, 32, 3)).astype(jnp.bfloat16)
    loss = losses.pixel_loss(jnp.asarray(sr), jnp.asarray(hr))
    assert loss.dtype == jnp.float32
    expected = np.mean(np.abs(sr.astype(np.float64) - hr.astype(np.float64)))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_an_unknown_norm_is_refused():
    with pytest.raises(KeyError, match="L1"):
        losses.pixel_loss(jnp.ones(3), jnp.zeros(3), "L1")


@pytest.mark.parametrize("norm", ["l1", "mse"])
def test_perceptual_loss_is_the_weighted_sum_over_layers(norm, rng):
    shapes = {"conv1_2": (2, 8, 8, 4), "conv5_4": (2, 2, 2, 16), "unused": (1, 1)}
    sr, hr = ({name: rng.normal(size=shape) for name, shape in shapes.items()} for _ in range(2))
    weights = {"conv1_2": 0.1, "conv5_4": 2.0}
    expected = sum(
        weight * np.mean(np.abs(sr[name] - hr[name]) ** {"l1": 1, "mse": 2}[norm])
        for name, weight in weights.items()
    )
    loss = losses.perceptual_loss(
        jax.tree.map(jnp.float32, sr), jax.tree.map(jnp.float32, hr), weights, norm
    )
    assert loss.shape == ()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_standard_gan_losses_equal_cross_entropy(logits):
    real, fake = logits
    of_real, of_fake = losses.gan_discriminator_losses(*float32(real, fake))
    np.testing.assert_allclose(of_real, bce(real, 1), rtol=1e-6)
    np.testing.assert_allclose(of_fake, bce(fake, 0), rtol=1e-6)
    np.testing.assert_allclose(losses.gan_generator_loss(*float32(fake)), bce(fake, 1), rtol=1e-6)


def expected_generator_loss(real, fake):
    """Returns half of the paper's equation 2, with D_Ra(a, b) = sigmoid(a - mean b)."""
    return (bce(real - fake.mean(), 0) + bce(fake - real.mean(), 1)) / 2


def expected_discriminator_loss(real, fake, mean_real=None, mean_fake=None):
    """Returns half of the paper's equation 1; means that are given are constants."""
    mean_real = real.mean() if mean_real is None else mean_real
    mean_fake = fake.mean() if mean_fake is None else mean_fake
    return (bce(real - mean_fake, 1) + bce(fake - mean_real, 0)) / 2


def test_relativistic_generator_loss_equals_equation_2(logits):
    loss = losses.ragan_generator_loss(*float32(*logits))
    np.testing.assert_allclose(loss, expected_generator_loss(*logits), rtol=1e-6)


def test_the_generator_also_learns_from_real_images(logits):
    """The gradient has a part from each of the two terms, which are equal for equal logits."""
    real, fake = float32(*logits)
    gradient = jax.grad(losses.ragan_generator_loss, 1)(real, fake)
    of_real = jax.nn.sigmoid(real - fake.mean()).mean()
    of_fake = jax.nn.sigmoid(real.mean() - fake)
    np.testing.assert_allclose(gradient, -(of_real + of_fake) / (2 * fake.size), rtol=1e-5)


@pytest.mark.parametrize("stop_means", [False, True])
def test_relativistic_discriminator_losses_equal_equation_1(logits, stop_means):
    real, fake = logits
    of_real, of_fake = losses.ragan_discriminator_losses(
        *float32(real, fake), stop_means=stop_means
    )
    np.testing.assert_allclose(of_real, bce(real - fake.mean(), 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(of_fake, bce(fake - real.mean(), 0) / 2, rtol=1e-6)


def test_equal_logits_give_a_loss_of_log_2():
    """With equal logits every probability is one half."""
    same = jnp.full((4, 1), 7.0)
    np.testing.assert_allclose(losses.ragan_generator_loss(same, same), np.log(2), rtol=1e-6)
    both = losses.ragan_discriminator_losses(same, same)
    np.testing.assert_allclose(both, [np.log(2) / 2] * 2, rtol=1e-6)


def total_discriminator_loss(real, fake, stop_means=False):
    return sum(losses.ragan_discriminator_losses(real, fake, stop_means))


@pytest.mark.parametrize("stop_means", [False, True])
def test_all_losses_and_gradients_are_finite(logits, stop_means):
    def everything(real, fake):
        return (
            total_discriminator_loss(real, fake, stop_means)
            + losses.ragan_generator_loss(real, fake)
            + sum(losses.gan_discriminator_losses(real, fake))
            + losses.gan_generator_loss(fake)
        )

    for array in jax.tree.leaves(jax.value_and_grad(everything, (0, 1))(*float32(*logits))):
        assert np.all(np.isfinite(array))


def central_differences(function, *arrays, step=1e-5):
    """Returns the gradients of a function of float64 arrays by central differences."""
    gradients = [np.zeros_like(array) for array in arrays]
    for array, gradient in zip(arrays, gradients, strict=True):
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + step
            above = function(*arrays)
            array[index] = kept - step
            gradient[index] = (above - function(*arrays)) / (2 * step)
            array[index] = kept
    return gradients


@pytest.fixture
def pair(rng):
    return rng.normal(0.5, 1.5, (6, 1)), rng.normal(-0.5, 1.5, (6, 1))


def assert_gradients(loss, expected_loss, pair):
    expected = central_differences(expected_loss, *(array.copy() for array in pair))
    assert min(np.abs(gradient).max() for gradient in expected) > 1e-3
    for got, wanted in zip(jax.grad(loss, (0, 1))(*float32(*pair)), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)


def test_generator_gradient_goes_through_the_mean(pair):
    assert_gradients(losses.ragan_generator_loss, expected_generator_loss, pair)


def test_discriminator_gradient_goes_through_the_means(pair):
    assert_gradients(total_discriminator_loss, expected_discriminator_loss, pair)


def test_gradients_treat_stopped_means_as_constants(pair):
    means = {"mean_real": pair[0].mean(), "mean_fake": pair[1].mean()}
    assert_gradients(
        lambda real, fake: total_discriminator_loss(real, fake, stop_means=True),
        lambda real, fake: expected_discriminator_loss(real, fake, **means),
        pair,
    )


def test_stopping_the_means_halves_the_gradient_for_equal_logits():
    """With equal logits, the direct path and the path through the mean contribute equally."""
    real, fake = jnp.full((4, 1), 0.3), jnp.full((4, 1), 0.3)
    whole = jax.grad(total_discriminator_loss, (0, 1))(real, fake)
    half = jax.grad(total_discriminator_loss, (0, 1))(real, fake, True)
    for full, rest, sign in zip(whole, half, (-1, 1), strict=True):
        np.testing.assert_allclose(full, np.full((4, 1), sign / 2 / 4), rtol=1e-6)
        np.testing.assert_allclose(rest, np.full((4, 1), sign / 4 / 4), rtol=1e-6)


def test_means_are_over_the_batch_of_all_eight_devices(rng):
    """The means of single devices would give another loss (see losses.py)."""
    real, fake = rng.normal(0, 3, (2, 16, 1))
    mesh = sharding.create_mesh()
    put = [sharding.put_batch(np.float32(array), mesh) for array in (real, fake)]
    loss = jax.jit(losses.ragan_generator_loss)(*put)
    np.testing.assert_allclose(loss, expected_generator_loss(real, fake), rtol=1e-6)
    parts = zip(np.split(real, 8), np.split(fake, 8), strict=True)
    per_device = np.mean([expected_generator_loss(*part) for part in parts])
    assert abs(per_device - expected_generator_loss(real, fake)) > 0.01


def test_losses_are_means_over_logits_of_any_shape(rng):
    """Logits of pixels give the same as logits of images."""
    real, fake = (rng.standard_normal((2, 3, 4, 1)).astype(np.float32) for _ in range(2))
    for loss in (
        losses.ragan_generator_loss,
        losses.ragan_discriminator_losses,
        losses.gan_discriminator_losses,
    ):
        pixels, images = loss(real, fake), loss(real.reshape(-1, 1), fake.reshape(-1, 1))
        np.testing.assert_allclose(pixels, images, rtol=1e-6)
        assert np.shape(pixels) == np.shape(images)
