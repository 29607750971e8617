"""The two training steps as pure functions; the caller jits them.

After the arrays, both take keyword arguments that are fixed for a run (modules, optimisers,
weights). `functools.partial` binds them before `jax.jit(..., donate_argnums=0)`.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh

from esrgan_jax.degradation.recipe import Recipe, degraded, image_keys
from esrgan_jax.degradation.sharpen import sharpen
from esrgan_jax.gray import to_gray
from esrgan_jax.imresize import degrade, margin
from esrgan_jax.models.generator import Generator
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.sharding import constrain, split_over, whole
from esrgan_jax.training import losses
from esrgan_jax.training.train_state import Params, TrainState, moving_average

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Result = TypeVar("Result")  # a pytree of arrays
LOSSES = ("pixel", "perceptual", "gan", "ms_ssim", "ldl")


def images(
    batch: Batch,
    scale: int,
    recipe: Recipe | None = None,
    unsharp: Collection[str] = (),
    mesh: Mesh | None = None,
    gray: bool = False,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns LR, and the HR images that each loss compares with, float32 in [0, 1].

    Args:
        batch: {"hr": (N, P + 2m, P + 2m, C) uint8} with the margin m that `imresize.degrade` or the
            recipe needs, or uint8 pairs {"lr": (N, P/scale, P/scale, C), "hr": (N, P, P, C)}. With
            a recipe also "key", see `keyed`.
        scale: HR size divided by LR size.
        recipe: A random degradation; without one, LR is MATLAB's bicubic.
        unsharp: Those of LOSSES that compare with HR after the unsharp mask. If there are any, a
            recipe degrades that HR, as Real-ESRGAN does.
        mesh: Devices over which a recipe's images are split.
        gray: Whether all are reduced to luma, one channel, after the degradation.
    """
    hr = batch["hr"]
    if recipe is not None:
        lr, hr, sharp = degraded(recipe, batch["key"], hr, scale, bool(unsharp), mesh)
    else:
        if "lr" in batch:
            lr = batch["lr"].astype(jnp.float32) / 255
        else:
            lr, edge = degrade(hr, scale), margin(scale)
            hr = hr[:, edge : hr.shape[1] - edge, edge : hr.shape[2] - edge]
        hr = hr.astype(jnp.float32) / 255
        sharp = sharpen(hr) if unsharp else hr
    if gray:
        lr, hr, sharp = map(to_gray, (lr, hr, sharp))
    return lr, {loss: sharp if loss in unsharp else hr for loss in LOSSES}


def keyed(batch: Batch, recipe: Recipe | None, step: jax.Array) -> Batch:
    """Adds the random key of each image to a batch that a recipe degrades."""
    if recipe is None:
        return batch
    return batch | {"key": image_keys(recipe.seed, step, len(batch["hr"]))}


def forward(
    module: nn.Module | Generator,
    params: Params,
    batch_stats: Params,
    x: jax.Array,
    mesh: Mesh | None = None,
    placement: Any = None,
) -> tuple[jax.Array, Params]:
    """Applies a network in training, and returns its output and the updated running statistics.

    With a mesh, a network without batch statistics is applied by each device to its images. Then
    the devices' gradients are summed once, at the end and in float32. Left to itself, the compiler
    sums them in each turn of the loop over blocks, and in the dtype of the computation. `placement`
    has the shardings of the parameters, if they are split over devices.
    """

    def apply(params: Params, x: jax.Array) -> Any:
        return module.apply({"params": params}, x, train=True)

    if mesh is not None and not batch_stats:
        return split_over(mesh, apply, placement)(params, x), {}
    variables = {"params": whole(params, placement), "batch_stats": batch_stats}
    y, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    return y, updated.get("batch_stats", {})


def accumulate(
    gradients: Callable[[Params, Batch], tuple[Params, Result]],
    batch_stats: Params,
    batch: Batch,
    parts: int,
) -> tuple[Params, Result]:
    """Computes `gradients(batch_stats, batch)` as the mean over `parts` equal parts in sequence.

    It needs the memory of one part. The means of batch normalisation and of the relativistic loss
    are then over a part. Running statistics are passed from part to part.
    """
    if parts == 1:
        return gradients(batch_stats, batch)
    # Part k has every parts-th image, so that no image moves to another device.
    split = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
    first = jax.tree.map(lambda x: x[0], split)
    zeros = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(gradients, batch_stats, first)[1]
    )

    def add(carry: tuple[Any, Any], part: Any) -> tuple[tuple[Any, Any], None]:
        batch_stats, total = carry
        batch_stats, result = gradients(batch_stats, part)
        return (batch_stats, jax.tree.map(jnp.add, total, result)), None

    (batch_stats, total), _ = lax.scan(add, (batch_stats, zeros), split)
    return batch_stats, jax.tree.map(lambda x: x / parts, total)


def skip_nonfinite(
    before: TrainState, after: TrainState, metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """Undoes a step with a loss or gradient norm that is not finite, all but its number.

    Args:
        before: The state before the step.
        after: The state after it.
        metrics: The step's values.

    Returns:
        `after`, or `before` with the number of `after`, and the metrics with "skipped", 0 or 1.
    """
    finite = jnp.all(jnp.isfinite(jnp.stack([*metrics.values()])))
    before = before.replace(step=after.step)
    state = jax.tree.map(functools.partial(jnp.where, finite), after, before)
    return state, {**metrics, "skipped": 1 - finite.astype(jnp.float32)}


def psnr_step(
    state: TrainState,
    batch: Batch,
    *,
    generator: Generator,
    optimizer: optax.GradientTransformation,
    scale: int,
    pixel_norm: str = "l1",
    ms_ssim_weight: float = 0.0,
    ema_decay: float = 0.0,
    accumulation: int = 1,
    mesh: Mesh | None = None,
    placement: TrainState | None = None,
    recipe: Recipe | None = None,
    unsharp: Collection[str] = (),
) -> tuple[TrainState, Metrics]:
    """Updates the PSNR-oriented generator once (paper §4.1).

    The loss is the pixel loss ("l1" or "mse"), plus `ms_ssim_weight` · (1 - MS-SSIM) if that weight
    is not 0. For `mesh` see `forward`, for `recipe` and `unsharp` see `images`, for `ema_decay` see
    `moving_average`, for `accumulation` see `accumulate`; `placement` is the tree of the state's
    shardings, if not all of it is replicated. Returns the new state and {"l_g_pix", "grad_norm_g"};
    with MS-SSIM also "l_g_ms_ssim" and "l_g_total".
    """

    placed = placement.generator.params if placement else None

    def gradients(batch_stats: Params, batch: Batch):
        lr, hr = images(batch, scale, recipe, unsharp, mesh, generator.in_channels == 1)

        def loss(params: Params):
            sr, updated = forward(generator, params, batch_stats, lr, mesh, placed)
            total, parts = losses.image_losses(sr, hr, pixel_norm, ms_ssim_weight=ms_ssim_weight)
            return total, (updated, parts | ({"l_g_total": total} if ms_ssim_weight else {}))

        grads, (updated, parts) = jax.grad(loss, has_aux=True)(state.generator.params)
        return updated, (grads, parts)

    network, batch = state.generator, keyed(batch, recipe, state.step)
    batch_stats, (grads, metrics) = accumulate(gradients, network.batch_stats, batch, accumulation)
    network = network.updated(grads, batch_stats, optimizer)
    metrics["grad_norm_g"] = optax.tree.norm(grads)
    step = state.step + 1
    ema_params = moving_average(state.ema_params, network.params, ema_decay, step)
    return state.replace(step=step, generator=network, ema_params=ema_params), metrics


def gan_step(
    state: TrainState,
    vgg_params: Params,
    batch: Batch,
    *,
    generator: Generator,
    discriminator: nn.Module,
    vgg: VGGFeatures | None,
    optimizer: optax.GradientTransformation,
    d_optimizer: optax.GradientTransformation,
    scale: int,
    use: losses.GanLosses,
    ema_decay: float = 0.0,
    accumulation: int = 1,
    mesh: Mesh | None = None,
    placement: TrainState | None = None,
    recipe: Recipe | None = None,
    unsharp: Collection[str] = (),
) -> tuple[TrainState, Metrics]:
    """Updates the generator and the discriminator once, on the same batch (paper Eq. 1 to 3).

    Both gradients are computed at the old parameters of both networks, so XLA computes their common
    part once. With spectral normalisation only the generator's forward pass is common, since the
    discriminator's kernels change a little with each of its passes, as in PyTorch.

    Args:
        vgg_params: The feature extractor's frozen parameters, kept outside the state.
        vgg: The feature extractor, or None for no perceptual loss.
        use: The losses and their weights; LDL needs averaged parameters (EMA) in the state.
        mesh: Of the generator, see `forward`.
        placement: See `psnr_step`.
        recipe: See `images`.
        unsharp: See `images`.

    Returns the new state and a dict with every loss before weighting ("l_g_pix", "l_g_percep",
    "l_g_gan", "l_d_real", "l_d_fake"; "l_g_ms_ssim" and "l_g_ldl" if they have a weight), the
    weighted sums "l_g_total" and "l_d_total", the mean logits "out_d_real" and "out_d_fake", and
    both gradient norms.
    """
    network, opponent = state.generator, state.discriminator
    assert opponent is not None
    placed = d_placed = ema_placed = None
    if placement and placement.discriminator:
        placed, d_placed = placement.generator.params, placement.discriminator.params
        ema_placed = placement.ema_params
    d_params, batch = whole(opponent.params, d_placed), keyed(batch, recipe, state.step)

    def gradients(batch_stats: tuple[Params, Params], batch: Batch):
        lr, hr = images(batch, scale, recipe, unsharp, mesh, generator.in_channels == 1)
        g_stats, d_stats = batch_stats
        averaged = None
        if use.ldl_weight:
            averaged_params = whole(state.ema_params, ema_placed)
            variables: Any = {"params": averaged_params, "batch_stats": g_stats}
            averaged = generator.apply(variables, lr)

        def generator_loss(params: Params):
            sr, g_updated = forward(generator, params, g_stats, lr, mesh, placed)
            real, updated = None, d_stats
            if use.relativistic:
                real, updated = forward(discriminator, d_params, d_stats, hr["gan"])
            fake, updated = forward(discriminator, d_params, updated, sr)
            features = None
            if vgg is not None:
                sr_features: Any = vgg.apply({"params": vgg_params}, sr)
                hr_features: Any = vgg.apply({"params": vgg_params}, hr["perceptual"])
                features = sr_features, hr_features
            total, parts = losses.generator_losses(use, sr, hr, features, fake, real, averaged)
            return total, (sr, g_updated, updated, parts)

        def discriminator_loss(params: Params):
            real, updated = forward(discriminator, params, d_stats, hr["gan"])
            fake, updated = forward(discriminator, params, updated, sr)
            total, parts = losses.discriminator_losses(use, (fake, real))
            return total, (updated, parts)

        grad = jax.grad(generator_loss, has_aux=True)
        g_grads, (sr, g_stats, d_stats, g_parts) = grad(network.params)
        grad = jax.grad(discriminator_loss, has_aux=True)
        d_grads, (d_stats, d_parts) = grad(d_params)
        return (g_stats, d_stats), (g_grads, d_grads, g_parts | d_parts)

    (g_stats, d_stats), (g_grads, d_grads, metrics) = accumulate(
        gradients, (network.batch_stats, opponent.batch_stats), batch, accumulation
    )
    network = network.updated(g_grads, g_stats, optimizer)
    # First whole: else the compiler splits the sums over batches from which they come.
    d_grads = constrain(whole(d_grads, d_placed), d_placed)
    opponent = opponent.updated(d_grads, d_stats, d_optimizer)
    metrics["grad_norm_g"] = optax.tree.norm(g_grads)
    metrics["grad_norm_d"] = optax.tree.norm(d_grads)
    step = state.step + 1
    ema_params = moving_average(state.ema_params, network.params, ema_decay, step)
    return TrainState(step, network, opponent, ema_params), metrics
