"""The steps of the training benchmark in PyTorch."""

import functools
from typing import Any

import numpy as np
import torch

from benchmarks import timing, torch_device, torch_networks, torch_steps
from esrgan_jax.interop import discriminator_names, rrdb_names, vgg_names
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.train_state import TrainState


def torch_side(
    name: str,
    config: Config,
    stage: str,
    initial: TrainState,
    extractor: Any,
    vgg_params: Any,
    lr: np.ndarray,
    hr: np.ndarray,
) -> timing.Side:
    """Returns the side of PyTorch, as shipped or tuned.

    Args:
        name: `torch_device.SHIPPED` or `torch_device.TUNED`.
        config: Of the run.
        stage: "psnr" or "gan".
        initial: Where training starts.
        extractor: The VGG of the GAN stage.
        vgg_params: Its parameters.
        lr: (N, P / scale, P / scale, 3) float32.
        hr: (N, P, P, 3) float32.
    """
    tuned = name == torch_device.TUNED

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

        parameters = list(generator.parameters())
        averaged = [p.detach().clone() for p in parameters] if settings.ema_decay else []

        def run() -> float:
            losses = step(*images)
            if averaged:
                new = [p.detach() for p in parameters]
                torch._foreach_lerp_(averaged, new, 1 - settings.ema_decay)
            torch_device.synchronize(device)
            return losses.get("l_g_total", losses["l_g_pix"]).item()

        return run

    precision = torch_device.precision(name, training=True)
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
