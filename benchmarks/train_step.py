"""Times a training step next to PyTorch's: python -m benchmarks.train_step > train_step.jsonl"""

import argparse
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import flops, results, timing
from configs import x4
from esrgan_jax import sharding
from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.imresize import margin
from esrgan_jax.interop import discriminator_names, rrdb_names, vgg_names
from esrgan_jax.models import COMPUTATION_DTYPES
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.vgg import VGGFeatures, layer_names
from esrgan_jax.training import steps
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.stages import create_config_generator, create_stage, load_features

PEERS = ("torch",)
STAGES = ("psnr", "gan")
LOSS = {"psnr": "l_g_pix", "gan": "l_g_total"}


def measure_case(
    stage: str,
    batch: int,
    patch: int,
    blocks: int,
    features: Sequence[str],
    vgg: str | None,
    dtype: str,
    peer: Sequence[str],
    repeats: int,
    num_features: int = 64,
    num_growth: int = 32,
) -> dict[str, Any]:
    """Measures one stage's step on random images, built as by `esrgan_jax.main`.

    Args:
        stage: "psnr" or "gan".
        batch: Images in a step.
        patch: Side of the HR images.
        blocks: Of the generator.
        features: VGG layers of the perceptual loss.
        vgg: File of converted weights; None makes random ones, which are as fast.
        dtype: Our computation in generator and discriminator.
        peer: Of PEERS.
        repeats: Timed runs.
        num_features: Channels of generator and discriminator.
        num_growth: The generator's growth channels.
    """
    config = _config(batch, patch, blocks, features, dtype, num_features, num_growth)
    extractor: Any = None
    vgg_params: Any = {}
    if stage == "gan":
        extractor, vgg_params = _features(config, vgg, features)
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
            return float(metrics[LOSS[stage]])

        return run

    sides = [timing.Side(results.OURS, dtype, build, timing.jax_peak)]
    if "torch" in peer:
        lr_hr = jax.jit(functools.partial(steps.images, scale=config.scale))(images)
        lr, hr = (np.asarray(x) for x in lr_hr)
        common = (config, stage, initial, extractor, vgg_params, lr, hr)
        sides += [_torch_side(*common, tuned) for tuned in (False, True)]
    measured = timing.measure(sides, repeats)
    for found in measured.values():
        if "result" in found:
            found["first_loss"] = found["result"]
    generator = create_config_generator(config)
    if stage == "psnr":
        flop = flops.psnr_step_flop(generator, batch, patch // config.scale)
    else:
        discriminator = Discriminator(num_features=num_features)
        flop = flops.gan_step_flop(generator, discriminator, extractor, batch, patch)
    case = {"stage": stage, "batch": batch, "hr_patch": patch, "blocks": blocks}
    case |= {"features": list(features)} if stage == "gan" else {}
    return results.result_line(
        "train_step",
        case | {"num_features": num_features, "num_growth": num_growth, "repeats": repeats},
        measured,
        flop=flop,
        amount=batch,
        unit="images_per_s",
    )


def _config(
    batch: int,
    patch: int,
    blocks: int,
    features: Sequence[str],
    dtype: str,
    num_features: int,
    num_growth: int,
) -> Config:
    config = x4.get_config()
    config.generator.num_blocks, config.generator.num_growth = blocks, num_growth
    for section in (config.generator, config.discriminator):
        section.num_features, section.dtype = num_features, dtype
    for section in (config.psnr, config.gan):
        section.hr_patch, section.batch_size = patch, batch
    config.gan.layer_weights = ConfigDict(dict.fromkeys(features, 1.0))
    return config


def _features(config: Config, vgg: str | None, features: Sequence[str]) -> tuple[Any, Any]:
    if vgg is not None:
        config.vgg = vgg
        return load_features(config)
    module = VGGFeatures(layers=tuple(features))
    return module, jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))["params"]


def _torch_side(
    config: Config,
    stage: str,
    initial: Any,
    extractor: Any,
    vgg_params: Any,
    lr: np.ndarray,
    hr: np.ndarray,
    tuned: bool,
) -> timing.Side:
    import torch

    from benchmarks import torch_device, torch_networks, torch_steps

    def build() -> timing.Run:
        device = torch_device.find_device()
        images = [torch_networks.to_nchw(x).to(device) for x in (lr, hr)]

        def placed(module: Any, arrays: Any) -> Any:
            module = torch_networks.load_arrays(module, arrays).to(device)
            return torch_device.Tuned(module, device) if tuned else module

        def adam(module: Any, settings: Any, rate: float) -> torch.optim.Optimizer:
            fused = tuned and device.type == "cuda"
            betas = (settings.b1, settings.b2)
            return torch.optim.Adam(module.parameters(), lr=rate, betas=betas, fused=fused)

        settings = config[stage]
        fields = _generator_fields(config)
        arrays = rrdb_names.to_torch(fields, initial.generator.params)
        generator = placed(torch_networks.RRDBNet(**fields), arrays)
        optimizer = adam(generator, settings, settings.learning_rate)
        if stage == "psnr":
            step = functools.partial(torch_steps.psnr_step, generator, optimizer)
        else:
            fields = {"in_channels": 3, "num_features": config.discriminator.num_features}
            fields |= {"use_bias": config.discriminator.use_bias, "hr_patch": settings.hr_patch}
            variables = {
                "params": initial.discriminator.params,
                "batch_stats": initial.discriminator.batch_stats,
            }
            discriminator = placed(
                torch_networks.VGGStyleDiscriminator(**fields),
                discriminator_names.to_torch(fields, variables),
            )
            preprocessing = {**vgg_params["input"], "feature_scale": vgg_params["feature_scale"]}
            vgg: Any = torch_networks.VGGFeatures(extractor.layers, extractor.depth, preprocessing)
            arrays = _vgg_arrays(extractor, vgg_params, vgg.state_dict())
            vgg = placed(vgg, arrays).requires_grad_(False)
            step = functools.partial(
                torch_steps.gan_step,
                generator,
                discriminator,
                vgg,
                optimizer,
                adam(discriminator, settings, settings.d_learning_rate),
                pixel_weight=settings.pixel_weight,
                perceptual_weight=settings.perceptual_weight,
                layer_weights=settings.layer_weights.to_dict(),
                gan_weight=settings.gan_weight,
                stop_means=settings.stop_means,
            )

        def run() -> float:
            losses = step(*images)
            torch_device.synchronize(device)
            return losses[LOSS[stage]].item()

        return run

    name = torch_device.TUNED if tuned else torch_device.SHIPPED
    precision = torch_device.precision(tuned, training=True)
    return timing.Side(name, precision, build, torch_device.peak)


def _generator_fields(config: Config) -> dict[str, Any]:
    names = ("num_features", "num_growth", "num_blocks", "in_channels", "out_channels")
    fields = {name: config.generator[name] for name in (*names, "unshuffle", "plus")}
    return {**fields, "scale": config.scale, "upsampler": "upconv"}


def _vgg_arrays(extractor: Any, params: Any, wanted: Any) -> dict[str, np.ndarray]:
    arrays = {}
    for name, (index, _) in vgg_names.convolutions(extractor.depth).items():
        if f"features.{index}.weight" in wanted:
            arrays[f"features.{index}.weight"] = np.transpose(params[name]["kernel"], (3, 2, 0, 1))
            arrays[f"features.{index}.bias"] = np.asarray(params[name]["bias"])
    return arrays


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step",
        description="Time a step of the paper's training and print a line of JSON for each case.",
    )
    names = results.comma_list(str)
    parser.add_argument("--stage", type=names, default=list(STAGES), help="psnr, gan or both")
    parser.add_argument("--batch", type=int, default=16, help="images in a step (default 16)")
    parser.add_argument(
        "--patch", type=int, default=128, help="HR pixels, a multiple of 32 (default 128)"
    )
    parser.add_argument("--blocks", type=int, default=23, help="RRDBs (default 23)")
    parser.add_argument(
        "--features", type=names, default=["conv5_4"], help="VGG layers (default conv5_4)"
    )
    parser.add_argument("--vgg", help="converted weights (default: random ones, which are as fast)")
    results.add_common_arguments(parser, PEERS)
    args = parse(parser, argv)
    results.check_common_arguments(args, PEERS)
    for key, choices in (
        ("stage", STAGES),
        ("dtype", COMPUTATION_DTYPES),
        ("features", layer_names(19)),
    ):
        for value in getattr(args, key):
            if value not in choices:
                raise InputError(f"--{key}={value}: choose {', '.join(choices)}")
    if args.patch < 32 or args.patch % 32:
        raise InputError(f"--patch={args.patch}: take a multiple of 32")
    devices = jax.device_count()
    if args.batch < 1 or args.batch % devices:
        raise InputError(f"--batch={args.batch}: take a multiple of the {devices} devices")
    common = {name: getattr(args, name) for name in ("batch", "patch", "blocks", "features", "vgg")}
    common |= {"peer": args.peer, "num_features": args.num_features, "num_growth": args.num_growth}
    common |= {"repeats": args.repeats or (3 if jax.default_backend() == "cpu" else 20)}
    results.run_cases(
        measure_case,
        [
            {"stage": stage, "dtype": dtype, **common}
            for stage, dtype in itertools.product(args.stage, args.dtype)
        ],
    )


if __name__ == "__main__":
    run_command(main)
