"""Two tables of docs/models.md: what the package's networks are, and how one was trained.

Sizes are those of the weight files, settings those of configs/NAME.py, and scores are the last ones
in the logs in docs/runs/NAME.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks.table import read_lines
from esrgan_jax.evaluation.metrics import METRICS
from esrgan_jax.interop.weight_file import read_tensors

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "docs" / "runs"
STAGES = ("psnr", "gan")


def package() -> list[list[str]]:
    """Returns rows about the package's networks: architecture, files and speed."""
    from configs import lite_x4

    generator = lite_x4.get_config().generator
    paths = sorted((ROOT / "esrgan_jax" / "weights").glob("*.safetensors"))
    (count,) = {sum(array.size for array in read_tensors(path).values()) for path in paths}
    (megabytes,) = {f"{path.stat().st_size / 1e6:.1f}" for path in paths}
    times = {
        (line["case"]["blocks"], line["case"]["files"]): line["sides"]["ours"]["ms"] / 1e3
        for line in read_lines([RUNS / "performance" / "upscale.jsonl"])
    }
    return [
        [
            "architecture",
            f"RRDBNet x4: {generator.num_features} features, growth {generator.num_growth}, "
            f"{generator.num_blocks} blocks, {count:,} parameters",
        ],
        [
            "files",
            f"`esrgan_jax/weights/`: {len(paths)} safetensors files, float16, {megabytes} MB each",
        ],
        [
            "speed",
            f"{times['lite', 20]:.1f} s for 20 images of 128 x 128 pixels on two cores, where the "
            f"23-block network takes {times['23', 0]:.1f} s for one "
            "([performance.md](performance.md#upscaling))",
        ],
    ]


def training(name: str) -> list[list[str]]:
    """Returns the settings and the last scores of a run; a column for each stage."""
    config = importlib.import_module(f"configs.{name}").get_config()
    psnr, gan = config.psnr, config.gan
    (minimum,) = {psnr.minimum, gan.minimum}
    return [
        ["steps", *(f"{stage.steps:,}" for stage in (psnr, gan))],
        ["batch, HR patch", *(f"{stage.batch_size}, {stage.hr_patch}" for stage in (psnr, gan))],
        ["losses", psnr.pixel_norm.upper(), _losses(gan)],
        [f"Adam, cosine to {_number(minimum)}", _number(psnr.learning_rate), _rates(gan)],
        ["averaged weights (EMA)", *(f"{stage.ema_decay:g}" for stage in (psnr, gan))],
        ["Kodak24 at the end", *(_scores(RUNS / name / f"{stage}.jsonl") for stage in STAGES)],
    ]


def _losses(gan: Any) -> str:
    layers = list(gan.layer_weights)
    features = f"VGG19 {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers of VGG19"
    kind = "RaGAN" if gan.relativistic else "GAN"
    return (
        f"{gan.perceptual_weight:g} · {features}, {gan.gan_weight:g} · {kind}, "
        f"{gan.pixel_weight:g} · {gan.pixel_norm.upper()}"
    )


def _rates(gan: Any) -> str:
    rates = f"generator {_number(gan.learning_rate)}, discriminator {_number(gan.d_learning_rate)}"
    ends = [sum(gan.periods[: n + 1]) for n in range(len(gan.periods) - 1)]
    return rates + "".join(f"; restarted after {end:,} steps" for end in ends)


def _number(value: float) -> str:
    """Returns 3e-4 for 0.0003."""
    digits, exponent = f"{value:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def _scores(log: Path) -> str:
    lines = map(json.loads, log.read_text().splitlines())
    last = [line for line in lines if "val_psnr_y" in line][-1]
    psnr, ssim = (METRICS[name].shown(last[f"val_{name}"]) for name in ("psnr_y", "ssim_y"))
    return f"{psnr} dB, {ssim} SSIM"
