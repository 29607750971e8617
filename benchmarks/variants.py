"""Times forms of upscaling and of the training steps that only an accelerator can decide between.

Each has a prediction, written before it was measured for the first time.
"""

import inspect
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import flops
from benchmarks.checks import random_like
from configs import x4
from esrgan_jax import sharding
from esrgan_jax.imresize import margin
from esrgan_jax.models import rrdb
from esrgan_jax.models.conv import convolve, leaky_relu
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.training.stages import create_config_generator, create_stage
from esrgan_jax.upscaling.tile_step import upscale_step


class Variant(NamedTuple):
    """A form of some work.

    Attributes:
        work: A key of WORKS.
        predicted: Speed, relative to the first variant of the same work.
        why: The reason for the prediction.
        fields: What differs, arguments of the function in WORKS.
        options: What differs for XLA: the flags of XLA_FLAGS, without dashes.
    """

    work: str
    predicted: float
    why: str
    fields: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}


class Program(NamedTuple):
    """Some work, ready to be compiled.

    Attributes:
        function: Of a state and of other arrays; returns the next state and a result.
        state: Its first argument, which is donated: None, or a train state.
        arrays: Its other arguments.
        flop: Counted operations of a run.
        amount: Images or output megapixels of a run.
    """

    function: Callable[..., tuple[Any, Any]]
    state: Any
    arrays: tuple[Any, ...]
    flop: int
    amount: float


def measure(name: str, tiny: bool) -> dict[str, Any]:
    """Times one of VARIANTS.

    Returns:
        {"ms" (median), "fastest_ms", "compile_s", "temporary_mb" (as the compiler planned it),
        "rate" (images or output megapixels a second), "tflops"}.
    """
    variant = VARIANTS[name]
    program = WORKS[variant.work](tiny=tiny, **variant.fields)
    state, arrays = jax.device_put((program.state, program.arrays))
    began = time.perf_counter()
    lowered = jax.jit(program.function, donate_argnums=0).lower(state, *arrays)
    compiled = lowered.compile(compiler_options=dict(variant.options))
    compile_s = time.perf_counter() - began
    seconds = []
    for _ in range(3 if tiny else 22):
        began = time.perf_counter()
        state, result = jax.block_until_ready(compiled(state, *arrays))
        seconds.append(time.perf_counter() - began)
    leaves = map(np.asarray, jax.tree.leaves(result))
    # Those of upscaling are integers, and booleans that say whether they were finite.
    if not all((leaf if leaf.dtype == bool else np.isfinite(leaf)).all() for leaf in leaves):
        raise FloatingPointError("the result is not finite")
    seconds = seconds[2:]  # the first runs load and warm up
    median = statistics.median(seconds)
    memory = compiled.memory_analysis()
    return {
        "ms": 1e3 * median,
        "fastest_ms": 1e3 * min(seconds),
        "compile_s": compile_s,
        "temporary_mb": memory.temp_size_in_bytes / 1e6 if memory else None,
        "rate": program.amount / median,
        "tflops": program.flop / median / 1e12,
    }


def _upscaling(
    *,
    tiny: bool,
    dtype: str = "bfloat16",
    products: str | None = None,
    unroll: bool = False,
    concatenated: bool = False,
    shape: tuple[int, int, int] = (1, 540, 960),
) -> Program:
    """Returns the network of 23 blocks on full tiles of 8 bits, as `Upscaler` calls it."""
    sizes = {"num_features": 4, "num_growth": 2, "num_blocks": 2} if tiny else {}
    module = rrdb.RRDBNet(dtype=jnp.dtype(dtype), unroll=unroll, **sizes)
    count, height, width = (min(shape[0], 2), 16, 24) if tiny else shape
    images = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    first = np.zeros((1, 8, 8, 3), np.float32)
    variables = random_like(jax.eval_shape(module.init, jax.random.key(0), first))
    true_sizes = np.array([[height, width]] * count, np.int32)

    def run(_: None, variables: Any, images: jax.Array, sizes: jax.Array) -> tuple[None, Any]:
        with jax.default_matmul_precision(products):
            # Without its `jit`, which would remember another form.
            step = inspect.unwrap(upscale_step)
            return None, step(module, variables, images, sizes, border="full", dtype="uint8")

    return Program(
        _concatenating(run) if concatenated else run,
        None,
        (variables, images, true_sizes),
        2 * flops.forward_macs(module, images.shape),
        images.size / 3 * module.scale**2 / 1e6,
    )


def _training(
    stage: str,
    *,
    tiny: bool,
    dtype: str = "bfloat16",
    vgg_dtype: str = "float32",
    batch: int = 16,
    remat: bool = False,
    unroll: bool = False,
    concatenated: bool = False,
) -> Program:
    """Returns the step of `configs/x4.py` at 128 px, built as by `esrgan_jax.main`."""
    patch = 32 if tiny else 128
    batch = 2 * batch // 16 if tiny else batch
    config = x4.get_config()
    config.generator.remat = remat
    config.generator.unroll = unroll
    config[stage].hr_patch = patch
    config.generator.dtype = config.discriminator.dtype = dtype
    if tiny:
        config.generator.update(num_features=4, num_growth=2, num_blocks=2)
        config.discriminator.num_features = 4
    vgg = VGGFeatures(("conv1_2",) if tiny else ("conv5_4",), dtype=jnp.dtype(vgg_dtype))
    config.gan.layer_weights = ConfigDict(dict.fromkeys(vgg.layers, 1.0))
    built = create_stage(config, stage, vgg, sharding.create_mesh(jax.devices()[:1]))
    state = random_like(jax.eval_shape(built.create, jax.random.key(0)))
    side = patch + 2 * margin(config.scale)
    hr = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    generator = create_config_generator(config)
    if stage == "psnr":
        frozen: Any = {}
        flop = flops.psnr_step_flop(generator, batch, patch // config.scale)
    else:
        frozen = random_like(jax.eval_shape(vgg.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))))
        frozen = frozen["params"]
        discriminator = Discriminator(num_features=config.discriminator.num_features)
        flop = flops.gan_step_flop(generator, discriminator, vgg, batch, patch)
    step = inspect.unwrap(built.step)  # a `jit` with compiler options cannot be within another
    step = _concatenating(step) if concatenated else step
    return Program(step, state, (frozen, {"hr": hr}), flop, batch)


def _concatenating(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function with dense blocks in the form of the paper's figure."""

    def call(*arguments: Any) -> Any:
        with mock.patch.object(rrdb, "dense_convolutions", concatenated_convolutions):
            return function(*arguments)

    return call


def concatenated_convolutions(
    x: jax.Array, kernels: list[jax.Array], biases: list[jax.Array]
) -> jax.Array:
    """Does the same as `dense_block.dense_convolutions`, each of all that it reads."""
    maps, y = [x], x
    for kernel, bias in zip(kernels, biases, strict=True):
        y = convolve(jnp.concatenate(maps, axis=-1), kernel) + bias
        maps.append(leaky_relu(y))
    return y


WORKS: dict[str, Callable[..., Program]] = {
    "upscale": _upscaling,
    "psnr": partial(_training, "psnr"),
    "gan": partial(_training, "gan"),
}
# Peaks of an H100: 800 TFLOP/s in bfloat16, 400 in TF32, 60 in float32; 3.3 TB/s. Few channels keep
# these networks far below them, so memory traffic counts about as much as products.
VARIANTS: dict[str, Variant] = {
    "upscale/base": Variant("upscale", 1.0, "bfloat16, 960x540 in one piece, blocks in a loop"),
    "upscale/tf32": Variant("upscale", 0.5, "twice the bytes, half the peak", {"dtype": "float32"}),
    "upscale/float32": Variant(
        "upscale",
        0.15,
        "no tensor cores",
        {"dtype": "float32", "products": "highest"},
    ),
    "upscale/unrolled": Variant(
        "upscale", 1.03, "no copies of what a loop carries", {"unroll": True}
    ),
    "upscale/concatenated": Variant(
        "upscale", 0.75, "32 outputs fill a quarter of a tile", {"concatenated": True}
    ),
    "upscale/tiles-8x256": Variant(
        "upscale", 1.0, "as many pixels, and either fills the GPU", {"shape": (8, 256, 256)}
    ),
    "upscale/tile-128": Variant(
        "upscale", 0.6, "too few pixels for 132 multiprocessors", {"shape": (1, 128, 128)}
    ),
    "upscale/nchw": Variant(
        "upscale", 0.6, "tensor cores want NHWC", {}, {"xla_gpu_force_conv_nchw": True}
    ),
    "upscale/no-autotuning": Variant(
        "upscale", 0.8, "cuDNN's first guess", {}, {"xla_gpu_autotune_level": 0}
    ),
    "upscale/fused-activation": Variant(
        "upscale",
        1.1,
        "cuDNN adds the bias and the leaky ReLU itself",
        {},
        {"xla_gpu_use_runtime_fusion": True},
    ),
    "upscale/conv-fusion": Variant(
        "upscale",
        0.85,
        "the concatenation is read in the convolution",
        {"concatenated": True},
        {"xla_gpu_experimental_enable_conv_fusion": True},
    ),
    "upscale/no-command-buffers": Variant(
        "upscale", 0.98, "kernels are long", {}, {"xla_gpu_enable_command_buffer": ""}
    ),
    "upscale/double-buffering": Variant(
        "upscale",
        1.02,
        "half the copies of what a loop carries",
        {},
        {"xla_gpu_enable_while_loop_double_buffering": True},
    ),
    "psnr/base": Variant("psnr", 1.0, "bfloat16, batch 16, blocks in a loop"),
    "psnr/tf32": Variant("psnr", 0.55, "twice the bytes, half the peak", {"dtype": "float32"}),
    "psnr/unrolled": Variant("psnr", 1.05, "saved features need no copy", {"unroll": True}),
    "psnr/concatenated": Variant(
        "psnr", 0.7, "as in upscaling, and all concatenations are saved", {"concatenated": True}
    ),
    "psnr/remat": Variant("psnr", 0.8, "a third more products, fewer bytes", {"remat": True}),
    "psnr/batch-64": Variant("psnr", 1.1, "32x32 LR pixels fill the GPU better", {"batch": 64}),
    "psnr/nchw": Variant(
        "psnr", 0.6, "tensor cores want NHWC", {}, {"xla_gpu_force_conv_nchw": True}
    ),
    "psnr/no-autotuning": Variant(
        "psnr", 0.8, "cuDNN's first guess", {}, {"xla_gpu_autotune_level": 0}
    ),
    "psnr/no-command-buffers": Variant(
        "psnr", 0.95, "hundreds of short kernels", {}, {"xla_gpu_enable_command_buffer": ""}
    ),
    "psnr/latency-hiding": Variant(
        "psnr",
        1.0,
        "nothing to hide on one GPU",
        {},
        {"xla_gpu_enable_latency_hiding_scheduler": True},
    ),
    "gan/base": Variant("gan", 1.0, "bfloat16, VGG in float32, batch 16"),
    "gan/bfloat16-vgg": Variant(
        "gan", 1.15, "a fifth of the operations at twice the rate", {"vgg_dtype": "bfloat16"}
    ),
    "gan/tf32": Variant("gan", 0.6, "twice the bytes, half the peak", {"dtype": "float32"}),
    "gan/batch-32": Variant("gan", 1.08, "32x32 LR pixels fill the GPU better", {"batch": 32}),
}
