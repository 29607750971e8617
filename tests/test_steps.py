"""Tests of the training steps against direct computations, on one device and on eight."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from esrgan_jax import sharding
from esrgan_jax.imresize import imresize, margin
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.training import losses, steps
from esrgan_jax.training.ms_ssim import ms_ssim
from esrgan_jax.training.train_state import TrainState, create_network, create_optimizer

SCALE, PATCH, BATCH = 2, 32, 8
MS_SSIM_WEIGHT, LDL_WEIGHT = 0.3, 20.0  # with the standard GAN loss alone
PIXEL_WEIGHT, GAN_WEIGHT = 0.1, 1.0  # so that each part of the loss matters
GENERATOR = RRDBNet(num_features=4, num_growth=2, num_blocks=1, scale=SCALE)
DISCRIMINATOR = Discriminator(num_features=2)
VGG = VGGFeatures(layers=("conv1_2",))
OPTIMIZER = create_optimizer(optax.constant_schedule(1e-3))
D_OPTIMIZER = create_optimizer(optax.constant_schedule(2e-3))


@pytest.fixture(scope="module")
def batch() -> dict[str, np.ndarray]:
    side = PATCH + 2 * margin(SCALE)
    hr = np.random.default_rng(1).integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)
    return {"hr": hr}


@pytest.fixture(scope="module")
def state() -> TrainState:
    def create(key):
        lr = jnp.zeros((1, PATCH // SCALE, PATCH // SCALE, 3))
        generator = create_network(GENERATOR, key, lr, OPTIMIZER)
        hr = jnp.zeros((1, PATCH, PATCH, 3))
        discriminator = create_network(DISCRIMINATOR, key, hr, D_OPTIMIZER)
        return TrainState(jnp.int32(0), generator, discriminator, generator.params)

    return jax.jit(create)(jax.random.key(0))


@pytest.fixture(scope="module")
def vgg_params() -> dict:
    return jax.jit(VGG.init)(jax.random.key(2), jnp.zeros((1, 32, 32, 3)))["params"]


@functools.cache  # compiling takes most of the time
def psnr_step(**options):
    options = {"generator": GENERATOR, "optimizer": OPTIMIZER, "scale": SCALE} | options
    options = {"ema_decay": 0.9} | options
    return jax.jit(functools.partial(steps.psnr_step, **options))


@functools.cache
def gan_step(vgg=VGG, relativistic=True, stop_means=False, **options):
    use = losses.GanLosses(PIXEL_WEIGHT, 1.0, GAN_WEIGHT, {"conv1_2": 0.5})
    if not relativistic:
        use = use._replace(ms_ssim_weight=MS_SSIM_WEIGHT, ldl_weight=LDL_WEIGHT)
    options = {
        "generator": GENERATOR,
        "discriminator": DISCRIMINATOR,
        "vgg": vgg,
        "optimizer": OPTIMIZER,
        "d_optimizer": D_OPTIMIZER,
        "scale": SCALE,
        "use": use._replace(relativistic=relativistic, stop_means=stop_means),
    } | options
    return jax.jit(functools.partial(steps.gan_step, **options))


def images(batch):
    """Returns LR and HR, with which all losses compare."""

    @jax.jit
    def compute(batch):
        lr, target = steps.images(batch, SCALE)
        assert target["pixel"] is target["perceptual"] is target["gan"]
        return lr, target["pixel"]

    return compute(batch)


def norm(tree):
    """Returns the norm of all gradients; of NumPy, since JAX compiles each of its operations."""
    return np.linalg.norm([np.linalg.norm(leaf) for leaf in jax.tree.leaves(tree)])


def assert_trees_close(a, b, rtol=1e-4, atol=1e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b)


def test_images_returns_the_hr_patch_and_its_lr(batch):
    lr, hr = images(batch)
    edge = margin(SCALE)
    whole = imresize(batch["hr"][0], 1 / SCALE)
    np.testing.assert_array_equal(np.round(np.asarray(lr[0]) * 255), whole[2:-2, 2:-2])
    np.testing.assert_array_equal(
        np.round(np.asarray(hr) * 255), batch["hr"][:, edge:-edge, edge:-edge]
    )


def test_images_returns_luma_for_gray_networks(batch):
    lr, hr = images(batch)
    gray_lr, gray_hr = jax.jit(lambda batch: steps.images(batch, SCALE, gray=True))(batch)
    for gray, rgb in ((gray_lr, lr), (gray_hr["gan"], hr)):
        luma = np.asarray(rgb) @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(gray[..., 0], luma, atol=1e-6)


def test_images_returns_pairs_unchanged(rng):
    pair = {
        "lr": rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
        "hr": rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8),
    }
    lr, hr = images(pair)
    np.testing.assert_allclose(lr, pair["lr"] / 255.0, rtol=1e-6)
    np.testing.assert_allclose(hr, pair["hr"] / 255.0, rtol=1e-6)


def test_psnr_step_is_one_adam_update_of_the_l1_loss(state, batch):
    lr, hr = images(batch)

    def loss(params):
        return jnp.mean(jnp.abs(GENERATOR.apply({"params": params}, lr) - hr))

    value, grads = jax.jit(jax.value_and_grad(loss))(state.generator.params)
    new, metrics = psnr_step()(state, batch)
    np.testing.assert_allclose(metrics["l_g_pix"], value, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm_g"], norm(grads), rtol=1e-5)
    state, new, grads = jax.device_get((state, new, grads))
    # Adam's first update: lr * g / (|g| + eps)
    expected = jax.tree.map(
        lambda p, g: p - 1e-3 * g / (np.abs(g) + 1e-8), state.generator.params, grads
    )
    significant = jax.tree.map(lambda g: np.abs(g) > 1e-6, grads)
    got = jax.tree.map(np.where, significant, new.generator.params, expected)
    assert_trees_close(got, expected)
    average = jax.tree.map(  # decay (1 + 1) / (10 + 1) after the first update
        lambda a, p: (2 * a + 9 * p) / 11, state.ema_params, new.generator.params
    )
    assert_trees_close(new.ema_params, average)
    assert int(new.step) == 1


def reference_gan_step(state, vgg_params, batch, relativistic):
    """Updates the generator, then the discriminator on the SR images from before that update."""
    lr, hr = images(batch)
    network, opponent = state.generator, state.discriminator
    apply_d = functools.partial(DISCRIMINATOR.apply, train=True, mutable=["batch_stats"])

    def logits(params, stats, image):
        y, updated = apply_d({"params": params, "batch_stats": stats}, image)
        return y, updated["batch_stats"]

    def g_loss(params):
        sr = GENERATOR.apply({"params": params}, lr)
        real, stats = None, opponent.batch_stats
        if relativistic:
            real, stats = logits(opponent.params, stats, hr)
        fake, stats = logits(opponent.params, stats, sr)
        features = [VGG.apply({"params": vgg_params}, x)["conv1_2"] for x in (sr, hr)]
        pix = jnp.mean(jnp.abs(sr - hr))
        percep = 0.5 * jnp.mean(jnp.abs(features[0] - features[1]))
        if relativistic:
            adv = losses.ragan_generator_loss(real, fake)
        else:
            adv = -jnp.mean(jax.nn.log_sigmoid(fake))
            averaged = GENERATOR.apply({"params": state.ema_params}, lr)
            percep += LDL_WEIGHT * losses.ldl_loss(sr, hr, averaged)
            percep += MS_SSIM_WEIGHT * (1 - ms_ssim(sr, hr))
        return PIXEL_WEIGHT * pix + percep + GAN_WEIGHT * adv, (sr, stats)

    (total, (sr, stats)), g_grads = jax.value_and_grad(g_loss, has_aux=True)(network.params)

    def d_loss(params, stats):
        real, stats = logits(params, stats, hr)
        fake, stats = logits(params, stats, jax.lax.stop_gradient(sr))
        if relativistic:
            return sum(losses.ragan_discriminator_losses(real, fake)), stats
        return losses.real_loss(real) + losses.fake_loss(fake), stats

    (d_total, stats), d_grads = jax.value_and_grad(d_loss, has_aux=True)(opponent.params, stats)
    return total, g_grads, d_total, d_grads, stats


# `test_unet_discriminator.py` compares a step with the standard loss with PyTorch.
@pytest.mark.parametrize("relativistic", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_gan_step_updates_generator_then_discriminator(state, vgg_params, batch, relativistic):
    step = gan_step() if relativistic else gan_step(relativistic=False)
    state = state.replace(ema_params=jax.tree.map(lambda x: 0.9 * np.asarray(x), state.ema_params))
    new, metrics = step(state, vgg_params, batch)
    assert set(metrics) == {
        *("l_g_pix", "l_g_percep", "l_g_gan", "l_g_total", "l_d_real", "l_d_fake", "l_d_total"),
        *("out_d_real", "out_d_fake", "grad_norm_g", "grad_norm_d"),
        *(() if relativistic else ("l_g_ms_ssim", "l_g_ldl")),
    }
    reference = jax.jit(functools.partial(reference_gan_step, relativistic=relativistic))
    total, g_grads, d_total, d_grads, stats = jax.device_get(reference(state, vgg_params, batch))
    np.testing.assert_allclose(metrics["l_g_total"], total, rtol=1e-5)
    np.testing.assert_allclose(metrics["l_d_total"], d_total, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm_g"], norm(g_grads), rtol=1e-4)
    np.testing.assert_allclose(metrics["grad_norm_d"], norm(d_grads), rtol=1e-4)
    # Adam's first moment is 0.1 of the gradient; the update would only show the gradient's sign.
    moment = new.generator.opt_state[0].mu
    scale = norm(g_grads)
    assert_trees_close(moment, jax.tree.map(lambda g: 0.1 * g, g_grads), 1e-3, 1e-6 * scale)
    moment = new.discriminator.opt_state[0].mu
    scale = norm(d_grads)
    assert_trees_close(moment, jax.tree.map(lambda g: 0.1 * g, d_grads), 1e-3, 1e-6 * scale)
    # Each call updated the running statistics: HR, if needed, and SR for the generator, then both.
    assert_trees_close(new.discriminator.batch_stats, stats)


@pytest.mark.slow  # `test_torch_agreement.py` compares a step with stopped means with PyTorch
def test_stop_means_changes_only_the_gradient_of_the_discriminator(state, vgg_params, batch):
    _, metrics = gan_step()(state, vgg_params, batch)
    _, stopped = gan_step(stop_means=True)(state, vgg_params, batch)
    for name, value in metrics.items():
        if name != "grad_norm_d":
            np.testing.assert_allclose(stopped[name], value, rtol=1e-5, err_msg=name)
    assert abs(stopped["grad_norm_d"] / metrics["grad_norm_d"] - 1) > 0.01


def test_accumulated_gradients_equal_those_of_the_whole_batch(state, batch):
    whole, metrics = psnr_step()(state, batch)
    split, split_metrics = psnr_step(accumulation=4)(state, batch)
    np.testing.assert_allclose(split_metrics["l_g_pix"], metrics["l_g_pix"], rtol=1e-5)
    assert_trees_close(split.generator.opt_state[0].mu, whole.generator.opt_state[0].mu, 1e-3, 1e-6)


@pytest.mark.slow
def test_parts_of_a_batch_have_their_own_statistics_in_the_gan_stage(state, vgg_params, batch):
    """Losses of single images are those of the whole batch, the others those of the parts."""
    _, whole = gan_step()(state, vgg_params, batch)
    split_state, split = gan_step(accumulation=2)(state, vgg_params, batch)
    halves = [gan_step()(state, vgg_params, {"hr": batch["hr"][part::2]}) for part in (0, 1)]
    for name in ("l_g_pix", "l_g_percep"):
        np.testing.assert_allclose(split[name], whole[name], rtol=1e-5)
    for name in ("l_g_gan", "l_d_real", "l_d_fake"):
        expected = np.mean([metrics[name] for _, metrics in halves])
        np.testing.assert_allclose(split[name], expected, rtol=1e-5)
        assert abs(split[name] / whole[name] - 1) > 1e-4
    for name in ("generator", "discriminator"):
        moments = [getattr(after, name).opt_state[0].mu for after, _ in halves]
        expected = jax.tree.map(lambda a, b: (a + b) / 2, *moments)
        got = getattr(split_state, name).opt_state[0].mu
        # Biases before a normalisation have no gradient but rounding.
        assert_trees_close(got, expected, 1e-3, 1e-5 * norm(expected))


def test_accumulate_passes_on_statistics_and_interleaves_the_parts():
    batch = {"hr": jnp.arange(8.0)}

    def gradients(seen, part):
        return seen * 10 + jnp.sum(part["hr"]), {"mean": jnp.mean(part["hr"] ** 2)}

    seen, result = steps.accumulate(gradients, jnp.float32(0), batch, 2)
    even, odd = np.arange(0, 8, 2.0), np.arange(1, 8, 2.0)  # part k takes every second image
    assert seen == even.sum() * 10 + odd.sum()
    assert result["mean"] == (np.mean(even**2) + np.mean(odd**2)) / 2


def test_batch_statistics_of_a_generator_are_updated(batch):
    generator = SRResNet(num_features=4, num_blocks=1, scale=SCALE)
    lr = jnp.zeros((1, PATCH // SCALE, PATCH // SCALE, 3))
    network = create_network(generator, jax.random.key(0), lr, OPTIMIZER)
    state = TrainState(jnp.int32(0), network)
    new, metrics = psnr_step(generator=generator, ms_ssim_weight=0.5)(state, batch)
    total = metrics["l_g_pix"] + 0.5 * metrics["l_g_ms_ssim"]
    np.testing.assert_allclose(metrics["l_g_total"], total, rtol=1e-6)
    before, after = (jax.tree.leaves(s.generator.batch_stats) for s in (state, new))
    assert before
    assert not np.allclose(before[0], after[0])
    assert new.discriminator is None
    assert new.ema_params is None


def test_steps_do_not_depend_on_the_number_of_devices(state, vgg_params, batch):
    """Losses, relativistic means and batch statistics are computed over the global batch."""
    expected_state, expected = gan_step()(state, vgg_params, batch)
    mesh = sharding.create_mesh(jax.devices()[:8])
    assert mesh.size == 8
    step = gan_step(mesh=mesh)
    placed, frozen = jax.device_put((state, vgg_params), sharding.replicated(mesh))
    compiled = step._cache_size()
    got_state, got = step(placed, frozen, sharding.put_batch(batch, mesh))
    step(got_state, frozen, sharding.put_batch(batch, mesh))
    assert step._cache_size() == compiled + 1  # the second step did not compile again
    assert_trees_close(got, expected, rtol=2e-4)
    assert_trees_close(
        got_state.discriminator.batch_stats, expected_state.discriminator.batch_stats
    )
    moment = expected_state.generator.opt_state[0].mu
    tolerance = 1e-6 * norm(moment)
    assert_trees_close(got_state.generator.opt_state[0].mu, moment, 1e-3, tolerance)
