"""The package's networks on a photograph, then both stages trained in minutes, on it as well.

python -m tools.demo --workdir=demo [--vgg=vgg19.safetensors]
"""

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags, logging

from esrgan_jax.errors import run_command
from esrgan_jax.evaluate import Pair, bicubic, read_pair
from esrgan_jax.mixture import ALPHA

HELD_OUT = "astronaut.png"
TRAINING = (
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
)
BOX = (60, 150, 132, 132)  # the face: top, left, height, width in HR pixels


def write_photographs(folder: Path) -> tuple[Path, Path]:
    """Copies the photographs into `folder`/train and `folder`/val; returns both."""
    import skimage.data

    source = Path(skimage.data.__file__).parent
    for name, split in [*((name, "train") for name in TRAINING), (HELD_OUT, "val")]:
        (folder / split).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / split / name)
    return folder / "train", folder / "val"


def compare(
    networks: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    pair: Pair,
    scale: int,
    picture: Path,
) -> None:
    """Prints the scores of networks beside bicubic's, and writes a picture of their results."""
    from esrgan_jax.comparison import comparison
    from esrgan_jax.metrics import scores
    from esrgan_jax.picture import write_picture
    from esrgan_jax.score_table import table

    columns, panels = {}, [("LR", pair.lr)]
    for name, upscale in {"bicubic": bicubic(scale), **networks}.items():
        sr = upscale(pair.lr)
        columns[name] = [{"name": pair.name, **scores(sr, pair.hr, scale)}]
        panels.append((f"{name}\n{columns[name][0]['psnr_y']:.2f} dB", sr))
    panels.append(("HR", pair.hr))
    write_picture(picture, comparison(panels, box=BOX, zoom=2))
    print(table(columns))
    print(f"{picture}: look at it.", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Upscale, then train both stages in minutes.")
    parser.add_argument("--workdir", type=Path, default=Path("demo"), help="folder of the run")
    parser.add_argument(
        "--vgg", default="", help="converted VGG weights; left out, no perceptual loss"
    )
    args = parser.parse_args(argv)

    from configs import demo
    from esrgan_jax.compilation import keep_programs
    from esrgan_jax.train import train_and_evaluate, use_cores
    from esrgan_jax.upscaler import Upscaler

    keep_programs()
    logging.set_verbosity(logging.WARNING)
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags
    began = time.monotonic()
    train, val = write_photographs(args.workdir / "photographs")
    config = demo.get_config(args.vgg)
    config.data.train, config.data.val = str(train), str(val)
    use_cores(config)
    pair = read_pair(val / HELD_OUT, None, config.scale)

    print("The package's networks, on a photograph that they never saw:")
    alphas = {"PSNR": 0.0, f"alpha {ALPHA}": ALPHA, "GAN": 1.0}
    packaged = {name: Upscaler.load(alpha=alpha) for name, alpha in alphas.items()}
    compare(packaged, pair, config.scale, args.workdir / "comparison.png")
    print(f"Yours: {sys.executable} -m esrgan_jax.upscale photo.jpg --output=large.png\n")

    print("Now smaller ones are trained from scratch.", flush=True)
    if not args.vgg:
        print(
            "No VGG weights given (make demo VGG=vgg19.safetensors), and the package ships none: "
            "the GAN stage trains without the perceptual loss."
        )
    train_and_evaluate(config, str(args.workdir))
    psnr, gan = args.workdir / "psnr", args.workdir / "gan"
    trained = {
        "PSNR": Upscaler.load(psnr),
        "alpha 0.5": Upscaler.load(gan, psnr_model=psnr, alpha=0.5),
        "GAN": Upscaler.load(gan),
    }
    compare(trained, pair, config.scale, args.workdir / "trained.png")
    minutes = (time.monotonic() - began) / 60
    print(f"Done in {minutes:.1f} minutes.", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
