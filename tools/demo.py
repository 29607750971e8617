"""Upscales a photograph with the package's networks, then fine-tunes one on noise and JPEG.

python -m tools.demo --workdir=demo
"""

import argparse
import io
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from esrgan_jax.blend import ALPHA
from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import run_command

if TYPE_CHECKING:
    from esrgan_jax.evaluation.samples import Pair

HELD_OUT = "astronaut.png"
TRAINING = (
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
)
COPIES = 3  # of each photograph, each with its own noise and JPEG quality
NOISE, QUALITY = 10.0, 75  # of the held-out image; those of training are around these values
BOX = (60, 150, 132, 132)  # the face: top, left, height, width in HR pixels


def write_pairs(folder: Path, scale: int) -> dict[str, str]:
    """Writes photographs and their degraded LR images; returns the folders as `data` settings.

    LR images are made by MATLAB's bicubic, with noise of 0 to 16 levels, and saved as JPEG of
    quality 60 to 95. Only the held-out photograph is in the validation folders.
    """
    import skimage.data

    from esrgan_jax.evaluation.samples import read_pair

    source, rng = Path(skimage.data.__file__).parent, np.random.default_rng(0)
    folders = {name: folder / name for name in ("train", "train_lr", "val", "val_lr")}
    for name in TRAINING:
        for copy in map(str, range(COPIES)):
            hr = _copied(source / name, folders["train"] / copy)
            noise, quality = rng.uniform(0, 16), int(rng.integers(60, 96))
            degraded = degrade(read_pair(hr, None, scale).lr, noise, quality, rng)
            _write(folders["train_lr"] / copy / Path(name).with_suffix(".jpg"), degraded)
    hr = _copied(source / HELD_OUT, folders["val"])
    degraded = degrade(read_pair(hr, None, scale).lr, NOISE, QUALITY, rng)
    _write(folders["val_lr"] / Path(HELD_OUT).with_suffix(".jpg"), degraded)
    return {name: str(path) for name, path in folders.items()}


def degrade(image: np.ndarray, noise: float, quality: int, rng: np.random.Generator) -> bytes:
    """Returns a (H, W, 3) uint8 image as JPEG, with normal noise of `noise` levels."""
    from PIL import Image

    noisy = np.clip(np.rint(rng.normal(image, noise)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "jpeg", quality=quality)
    return file.getvalue()


def compare(
    networks: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    pair: "Pair",
    scale: int,
    image: Path,
) -> None:
    """Prints the scores of networks and of bicubic, and writes an image of their results."""
    from esrgan_jax.evaluation.comparison import comparison
    from esrgan_jax.evaluation.metrics import scores
    from esrgan_jax.evaluation.samples import bicubic
    from esrgan_jax.evaluation.score_table import score_table
    from esrgan_jax.images.image_file import write_image

    columns, panels = {}, [("LR", pair.lr)]
    for name, upscale in {"bicubic": bicubic(scale), **networks}.items():
        sr = upscale(pair.lr)
        columns[name] = [{"name": pair.name, **scores(sr, pair.hr, scale)}]
        panels.append((f"{name}\n{columns[name][0]['psnr_y']:.2f} dB", sr))
    panels.append(("HR", pair.hr))
    write_image(image, comparison(panels, box=BOX, zoom=2))
    print(score_table(columns))
    print(f"{image}: look at it.", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Upscale, then fine-tune a network in minutes.")
    parser.add_argument("--workdir", type=path_type, default=Path("demo"), help="folder of the run")
    args = parse(parser, argv)

    from absl import flags, logging

    from configs import demo
    from esrgan_jax.evaluation.samples import read_pair
    from esrgan_jax.training.loop import train_and_evaluate, use_cores
    from esrgan_jax.upscaling.upscaler import Upscaler

    logging.set_verbosity(logging.WARNING)
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags
    start = time.monotonic()
    config = demo.get_config()
    config.data.update(write_pairs(args.workdir / "photographs", config.scale))
    use_cores(config)
    held_out = Path(config.data.val, HELD_OUT)
    degraded = Path(config.data.val_lr, HELD_OUT).with_suffix(".jpg")

    print("Results of the package's networks on a photograph that is not in their training data:")
    alphas = {"PSNR": 0.0, f"alpha {ALPHA}": ALPHA, "GAN": 1.0}
    packaged = {name: Upscaler.load(alpha=alpha, denoise=0) for name, alpha in alphas.items()}
    clean = read_pair(held_out, None, config.scale)
    compare(packaged, clean, config.scale, args.workdir / "comparison.png")
    print(f"Your image: {sys.executable} -m esrgan_jax.upscale photo.jpg --output=large.png\n")

    print(
        "These networks were trained on clean images, so they treat noise and JPEG blocks as "
        f"detail. Now the PSNR network is trained to remove them, on {len(TRAINING)} other "
        f"photographs, in {config.psnr.steps} steps.",
        flush=True,
    )
    train_and_evaluate(config, str(args.workdir))
    model = args.workdir / "psnr"
    trained = {"before": packaged["PSNR"], "after": Upscaler.load(model)}
    pair = read_pair(held_out, degraded, config.scale)
    compare(trained, pair, config.scale, args.workdir / "trained.png")
    command = f"{sys.executable} -m esrgan_jax.upscale old.jpg --output=x.png --model={model}"
    print(f"Your image: {command}")
    minutes = (time.monotonic() - start) / 60
    print(f"Done in {minutes:.1f} minutes.", file=sys.stderr)


def _copied(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(file, folder / file.name))


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


if __name__ == "__main__":
    run_command(main)
