"""Times a training step next to PyTorch's: python -m benchmarks.train_step > train_step.jsonl"""

import argparse
import functools
import importlib
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import flops, results, timing
from configs.ablations.lite import ROWS
from esrgan_jax import sharding
from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.imresize import margin
from esrgan_jax.models import create_discriminator
from esrgan_jax.models.vgg import VGGFeatures, layer_names
from esrgan_jax.training import steps
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.setting_rules import discriminator_settings
from esrgan_jax.training.stages import create_config_generator, create_stage, load_features

PEERS = ("torch",)
CONFIGS = ("lite_x4", "x4")
ABLATIONS = tuple(f"ablations.lite:{row}" for row in ROWS)  # those of residual blocks by us alone
CPU_BATCH = {"x4": 4}  # by default; a step of the config's 16 images takes minutes
STAGES = ("psnr", "gan")
# What flags may change in a config.
CHANGES = ("batch", "patch", "blocks", "num_features", "num_growth", "features")


def measure_case(
    name: str,
    stage: str,
    dtype: str,
    peer: Sequence[str],
    repeats: int,
    vgg: str | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Measures one stage's step on random images, built as by `esrgan_jax.main`.

    Args:
        name: Of CONFIGS or ABLATIONS.
        stage: "psnr" or "gan".
        dtype: Our computation in generator and discriminator.
        peer: Of PEERS.
        repeats: Timed runs.
        vgg: File of converted weights; None makes random ones, which are as fast.
        **changes: As `read_config` takes them.
    """
    config = read_config(name, dtype, **changes)
    settings = config[stage]
    batch, patch = settings.batch_size, settings.hr_patch
    extractor: Any = None
    vgg_params: Any = {}
    if stage == "gan":
        extractor, vgg_params = _features(config, vgg)
    side = patch + 2 * margin(config.scale)
    random = np.random.default_rng(0)
    images = {"hr": random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)}

    mesh = sharding.create_mesh()
    built = create_stage(config, stage, extractor, mesh)
    create = jax.jit(built.create, out_shardings=sharding.replicated(mesh))
    initial = jax.device_get(create(jax.random.key(0)))

    def build() -> timing.Run:
        state = jax.device_put(initial, sharding.replicated(mesh))
        frozen = jax.device_put(vgg_params, sharding.replicated(mesh))
        on_device = sharding.put_batch(images, mesh)

        def run() -> float:
            nonlocal state
            state, metrics = built.step(state, frozen, on_device)
            jax.block_until_ready(state)
            return float(metrics.get("l_g_total", metrics["l_g_pix"]))

        return run

    sides = [timing.Side(results.OURS, dtype, build, timing.jax_peak)]
    if "torch" in peer:
        from benchmarks import torch_device
        from benchmarks.train_peers import torch_side

        lr, targets = jax.jit(functools.partial(steps.images, scale=config.scale))(images)
        lr, hr = np.asarray(lr), np.asarray(targets["pixel"])
        given = (config, stage, initial, extractor, vgg_params, lr, hr)
        names = (torch_device.SHIPPED, torch_device.TUNED)
        sides += [torch_side(name, *given) for name in names]
    measured = timing.measure(sides, repeats)
    for found in measured.values():
        if "result" in found:
            found["first_loss"] = found["result"]
    generator = create_config_generator(config)
    if stage == "psnr":
        flop = flops.psnr_step_flop(generator, batch, patch // config.scale)
    else:
        discriminator = create_discriminator(**discriminator_settings(config.discriminator))
        flop = flops.gan_step_flop(generator, discriminator, extractor, batch, patch)
    case = {"config": name, "stage": stage, "batch": batch, "hr_patch": patch}
    case |= {"features": list(settings.layer_weights)} if stage == "gan" else {}
    fields = ("num_blocks", "num_features", "num_growth", "normalize")
    fields = [field for field in fields if field in config.generator]
    return results.result_line(
        "train_step",
        case | {field: config.generator[field] for field in fields} | {"repeats": repeats},
        measured,
        flop=flop,
        amount=batch,
        unit="images_per_s",
    )


def measure_as_trained(**case: Any) -> dict[str, Any]:
    """Does the same on as many devices as training has; for a process that has not used JAX."""
    from esrgan_jax.training.loop import use_cores

    use_cores(read_config(case["name"], **{name: case.get(name) for name in CHANGES}))
    return measure_case(**case)


def read_config(
    name: str,
    dtype: str = "float32",
    *,
    batch: int | None = None,
    patch: int | None = None,
    blocks: int | None = None,
    num_features: int | None = None,
    num_growth: int | None = None,
    features: Sequence[str] | None = None,
) -> Config:
    """Reads a config and changes what is not None.

    Args:
        name: Of CONFIGS or ABLATIONS.
        dtype: Of generator and discriminator.
        batch: Images in a step.
        patch: Side of the HR images.
        blocks: Of the generator.
        num_features: Channels of generator and discriminator.
        num_growth: The generator's growth channels.
        features: VGG layers of the perceptual loss.
    """
    module, _, row = name.partition(":")
    config = importlib.import_module(f"configs.{module}").get_config(*filter(None, [row]))
    generator, discriminator = config.generator, config.discriminator
    stages = (config.psnr, config.gan)
    for sections, key, value in (
        ((generator, discriminator), "dtype", dtype),
        ((generator, discriminator), "num_features", num_features),
        ((generator,), "num_growth", num_growth),
        ((generator,), "num_blocks", blocks),
        (stages, "batch_size", batch),
        (stages, "hr_patch", patch),
    ):
        for section in sections if value is not None else ():
            section[key] = value
    if features is not None:
        config.gan.layer_weights = ConfigDict(dict.fromkeys(features, 1.0))
    return config


def _features(config: Config, vgg: str | None) -> tuple[Any, Any]:
    if vgg is not None:
        config.vgg = vgg
        return load_features(config)
    module = VGGFeatures(layers=tuple(config.gan.layer_weights))
    return module, jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))["params"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step",
        description="Time a step of training and print a line of JSON for each case.",
    )
    names = results.comma_list(str)
    both = " and ".join(CONFIGS)
    parser.add_argument(
        "--config", type=names, help=f"default: {both} on a CPU, x4 on accelerators"
    )
    parser.add_argument("--stage", type=names, default=list(STAGES), help="psnr, gan or both")
    own = "(default: the config's)"
    parser.add_argument("--batch", type=int, help=f"images {own[:-1]}; on a CPU 4 for x4)")
    parser.add_argument("--patch", type=int, help=f"HR pixels, a multiple of 32 {own}")
    parser.add_argument("--blocks", type=int, help=f"RRDBs {own}")
    parser.add_argument("--num_features", type=int, help=f"channels {own}")
    parser.add_argument("--num_growth", type=int, help=f"growth channels {own}")
    parser.add_argument("--features", type=names, help=f"VGG layers {own}")
    parser.add_argument("--vgg", help="converted weights (default: random ones, which are as fast)")
    results.add_common_arguments(parser, PEERS)
    args = parse(parser, argv)
    results.check_common_arguments(args, PEERS)
    for key, choices in (
        ("config", CONFIGS + ABLATIONS),
        ("stage", STAGES),
        ("features", layer_names(19)),
    ):
        for value in getattr(args, key) or ():
            if value not in choices:
                raise InputError(f"--{key}={value}: choose {', '.join(choices)}")
    if args.patch is not None and (args.patch < 32 or args.patch % 32):
        raise InputError(f"--patch={args.patch}: take a multiple of 32")
    on_cpu, devices = jax.default_backend() == "cpu", jax.device_count()
    common = {name: getattr(args, name) for name in CHANGES}
    common |= {"vgg": args.vgg, "peer": args.peer, "repeats": args.repeats or (7 if on_cpu else 20)}
    cases = []
    for name in args.config or (CONFIGS if on_cpu else ("x4",)):
        batch = args.batch or (CPU_BATCH.get(name) if on_cpu else None)
        size = read_config(name, batch=batch).psnr.batch_size
        if size < 1 or size % devices:
            raise InputError(f"--batch={size}: take a multiple of the {devices} devices")
        for stage, dtype in itertools.product(args.stage, args.dtype):
            cases.append({"name": name, "stage": stage, "dtype": dtype, **common, "batch": batch})
    results.run_cases(measure_as_trained, cases)


if __name__ == "__main__":
    run_command(main)
