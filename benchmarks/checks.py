"""Compares networks and training steps on an accelerator with the same on its machine's CPU.

The reference is float32 on the CPU. Weights and images are random: small weights would hide errors
in layers that then do little.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from configs import x4
from esrgan_jax import sharding
from esrgan_jax.imresize import margin
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.srresnet import SRResNet
from esrgan_jax.models.unet_discriminator import UNetDiscriminator
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.training.stages import create_stage
from esrgan_jax.upscaling.upscaler import Upscaler


class Limit(NamedTuple):
    """What a precision may differ by.

    Attributes:
        output: The largest `error` of results and of batch statistics.
        gradient: That of gradients, whose norm is of order 2: where the input of a ReLU is almost
            zero, a rounding error changes single values a lot.
        order: Of the norm of all else: the largest value, or 2, which averages rounding errors.
        floor: Arrays with less than this part of the largest norm of their tree are compared with
            that part, since some are rounding errors alone, such as the gradient of a bias before
            batch normalisation.
    """

    output: float
    gradient: float
    order: float
    floor: float


# "default" is float32 with the products of a GPU if nothing is said: TF32, whose factors have three
# bits more than bfloat16's. The limits of gradients follow from ReLUs: if images and weights change
# by 1e-6, those of these networks change by 5e-3, and results by 8e-6; with the square root of the
# rounding error TF32 makes that 0.1. In bfloat16 on a CPU the GAN step's differ by 0.27 from
# float32's. A wrong gradient differs by about 1.
LIMITS = {
    "float32": Limit(1e-4, 2e-2, np.inf, 1e-2),
    "default": Limit(1e-2, 2.5e-1, 2, 1.0),
    "bfloat16": Limit(5e-2, 5e-1, 2, 1.0),
}

RESULTS = ("output", "gradient", "statistics")
Results = Mapping[str, Any]  # trees of arrays, by some of RESULTS
Compute = Callable[[str, Any], Results]  # of a key of LIMITS and a device


def check(name: str, tiny: bool, precisions: Sequence[str] = tuple(LIMITS)) -> dict[str, Any]:
    """Computes one of CHECKS on the accelerator and on the CPU.

    Args:
        name: A key of CHECKS.
        tiny: Takes networks of a few channels.
        precisions: Of LIMITS.

    Returns:
        {"errors": {precision: {result: error}}, "passed": bool}.
    """
    compute = CHECKS[name](tiny)
    wanted = jax.device_get(compute("float32", jax.devices("cpu")[0]))
    errors: dict[str, dict[str, float]] = {}
    for precision in precisions:
        limit = LIMITS[precision]
        found = jax.device_get(compute(precision, accelerator()))
        errors[precision] = {
            part: error(
                found[part], wanted[part], 2 if part == "gradient" else limit.order, limit.floor
            )
            for part in wanted
        }
    return {"errors": errors, "passed": all(passes(p, errors[p]) for p in precisions)}


def passes(precision: str, errors: Mapping[str, float]) -> bool:
    """Returns whether the errors of all results are within the precision's limits."""
    limit = LIMITS[precision]
    return all(
        value <= (limit.gradient if result == "gradient" else limit.output)
        for result, value in errors.items()
    )


def error(found: Any, wanted: Any, order: float, floor: float) -> float:
    """Returns the largest norm of a difference of two trees' arrays, relative to that of `wanted`.

    It is 1e9 if a value is not finite. For `order` and `floor` see `Limit`.
    """

    def norm(x: Any) -> float:
        return float(np.linalg.norm(np.asarray(x, np.float32).ravel(), order))

    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    norms = [(norm(np.float32(a) - np.float32(b)), norm(b)) for a, b in pairs]
    least = max(floor * max((size for _, size in norms), default=0), 1e-30)
    # Not `max`, which passes over values that are no numbers.
    worst = np.max([difference / max(size, least) for difference, size in norms], initial=0.0)
    return float(worst) if np.isfinite(worst) else 1e9


def accelerator() -> Any:
    """Returns the device that is checked."""
    return jax.devices()[0]


def to_device(tree: Any, device: Any) -> Any:
    """Puts a tree of NumPy arrays on a device."""
    return jax.device_put(tree, device)


def _network(module: Any, shape: tuple[int, ...]) -> Compute:
    """Returns what computes a network, and its gradients for the image and the parameters."""
    x = np.random.default_rng(0).random(shape, np.float32)
    variables = random_like(jax.eval_shape(module.init, jax.random.key(0), x))
    frozen = isinstance(module, VGGFeatures)  # as in training

    def loss(module: Any, x: jax.Array, params: Any, stats: Any) -> tuple[jax.Array, Any]:
        given = {"params": params, "batch_stats": stats}
        train = {} if frozen else {"train": True}
        y, updated = module.apply(given, x, mutable=["batch_stats"], **train)
        # Each output has a weight of its own, since the gradient of a mean is almost constant.
        key = jax.random.key(2)
        parts = [jnp.mean(leaf * jax.random.normal(key, leaf.shape)) for leaf in jax.tree.leaves(y)]
        return jnp.sum(jnp.stack(parts)), (y, updated)

    run = jax.jit(jax.grad(loss, 1 if frozen else (1, 2), has_aux=True), static_argnums=0)

    def compute(precision: str, device: Any) -> Results:
        used = module.clone(dtype=jnp.dtype(_dtype(precision)))
        with _products(precision):
            arrays = (x, variables["params"], variables.get("batch_stats", {}))
            gradient, (y, statistics) = run(used, *to_device(arrays, device))
        return {"output": y, "gradient": gradient, "statistics": statistics}

    return compute


def _step(stage: str, tiny: bool) -> Compute:
    """Returns what computes a step of the stage "psnr" or "gan", built as by `esrgan_jax.main`."""
    # Of few values batch normalisation has wild gradients: 8 in its last layer, and 128.
    features, blocks, batch, patch = (4, 1, 8, 32) if tiny else (64, 2, 8, 128)
    vgg = VGGFeatures(("conv1_2",) if tiny else ("conv5_4",))
    config = x4.get_config()
    config.generator.update(num_features=features, num_growth=features // 2, num_blocks=blocks)
    config.discriminator.num_features = features
    config[stage].hr_patch = patch
    config.gan.layer_weights = ConfigDict(dict.fromkeys(vgg.layers, 1.0))
    side = patch + 2 * margin(config.scale)
    hr = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    frozen: Any = {}
    if stage == "gan":
        frozen = random_like(jax.eval_shape(vgg.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
        frozen = frozen["params"]
    create = create_stage(config, stage, vgg, sharding.create_mesh()).create
    initial = random_like(jax.eval_shape(create, jax.random.key(0)))

    def compute(precision: str, device: Any) -> Results:
        config.generator.dtype = config.discriminator.dtype = _dtype(precision)
        with _products(precision):
            step = create_stage(config, stage, vgg, sharding.create_mesh([device])).step
            state, losses = step(*to_device((initial, frozen, {"hr": hr}), device))
        networks = [network for network in (state.generator, state.discriminator) if network]
        return {
            "output": losses,
            # Adam's first moment is a part of the gradient, its first update only the sign of it.
            "gradient": [optax.tree.get(network.opt_state, "mu") for network in networks],
            "statistics": [network.batch_stats for network in networks],
        }

    return compute


def _upscaler(tiny: bool) -> Compute:
    """Returns what upscales an image in tiles by the networks of the package."""
    side = 24 if tiny else 96
    image = np.random.default_rng(0).random((side, side + 8, 3), np.float32)

    def compute(precision: str, device: Any) -> Results:
        options: dict[str, Any] = {"tile": side - 8, "overlap": 8, "batch": 2}
        upscaler = Upscaler.load(dtype=_dtype(precision), devices=[device], **options)
        return {"output": upscaler(image)}

    return compute


def _dtype(precision: str) -> str:
    return "bfloat16" if precision == "bfloat16" else "float32"


def _products(precision: str) -> Any:
    return jax.default_matmul_precision("highest" if precision == "float32" else None)


def random_like(shapes: Any) -> Any:
    """Returns random arrays for the shapes of variables or of a train state, all different.

    The paper's initialisation has small kernels and equal vectors, which would hide errors.
    """
    rng = np.random.default_rng(1)

    def draw(path: Any, shape: Any) -> np.ndarray:
        names = {getattr(key, "key", getattr(key, "name", None)) for key in path}
        last = getattr(path[-1], "key", None)
        if last == "kernel" and "opt_state" not in names:
            deviation = (2 / np.prod(shape.shape[-4:-1])) ** 0.5
            return rng.normal(0, deviation, shape.shape).astype(np.float32)
        if last == "order":
            return np.arange(3, dtype=np.int32)
        if "opt_state" in names or not np.issubdtype(shape.dtype, np.floating):
            return np.zeros(shape.shape, shape.dtype)
        middle = last in ("var", "std", "scale", "feature_scale")
        return (middle + rng.uniform(-0.2, 0.2, shape.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _rrdb(tiny: bool, **fields: Any) -> Compute:
    features, blocks, side = (4, 1, 8) if tiny else (64, 2, 32)
    fields = {"num_growth": features // 2, "num_blocks": blocks, **fields}
    return _network(RRDBNet(num_features=features, **fields), (2, side, side, 3))


def _srresnet(tiny: bool) -> Compute:
    features, side = (4, 8) if tiny else (64, 32)
    return _network(SRResNet(num_features=features, num_blocks=2), (2, side, side, 3))


def _discriminator(tiny: bool) -> Compute:
    features, side = (4, 32) if tiny else (64, 128)
    return _network(Discriminator(num_features=features), (8, side, side, 3))


def _unet(tiny: bool) -> Compute:
    features, side = (4, 16) if tiny else (64, 128)
    return _network(UNetDiscriminator(num_features=features), (4, side, side, 3))


def _vgg(tiny: bool) -> Compute:
    layers, side = (("conv1_2", "relu2_1"), 16) if tiny else (("relu1_2", "conv5_4"), 96)
    return _network(VGGFeatures(layers), (2, side, side, 3))


CHECKS: dict[str, Callable[[bool], Compute]] = {
    "rrdb": _rrdb,
    "rrdb-plus": partial(_rrdb, plus=True),
    "rrdb-unshuffle": partial(_rrdb, scale=2, unshuffle=2),
    "rrdb-pixelshuffle": partial(_rrdb, upsampler="pixelshuffle"),
    "rrdb-remat": partial(_rrdb, remat=True),
    "srresnet": _srresnet,
    "discriminator-vgg": _discriminator,
    "discriminator-unet": _unet,
    "vgg-features": _vgg,
    "psnr-step": partial(_step, "psnr"),
    "gan-step": partial(_step, "gan"),
    "upscaler": _upscaler,
}
