"""Makes a figure of 32 random degradations of an image, to look at.

    python -m tools.degradation_sheet photo.png sheet.png --seed=1

A square is taken from the middle of the image and is sharpened by the unsharp mask, as in training.
Each pixel of LR is shown as a square. What was drawn for each tile is printed, row by row.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.degradation import kernels
from esrgan_jax.degradation.degrade import PUBLISHED, apply
from esrgan_jax.degradation.draws import Draws, Order, draw
from esrgan_jax.degradation.resize import MODES
from esrgan_jax.degradation.sharpen import sharpen
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.files import refuse_same
from esrgan_jax.images.image_file import read_image, write_image

SIDE, SCALE = 256, 4
DESCRIPTION = (
    "Make a figure of 32 random degradations of an image: of a square from its middle, sharpened "
    "by the unsharp mask, as in training. What was drawn for each tile is printed, row by row."
)
ROWS, COLUMNS = 4, 8


def degradations(image: np.ndarray, seed: int) -> tuple[Draws, np.ndarray]:
    """Returns what is drawn, with a leading axis of 32, and (32, SIDE/SCALE, SIDE/SCALE, 3) uint8.

    Args:
        image: (SIDE, SIDE, 3) uint8.
        seed: Of the draws.
    """
    hr = sharpen(jnp.asarray(image, jnp.float32) / 255)

    def one(key: jax.Array) -> tuple[Draws, jax.Array]:
        draw_key, noise_key = jax.random.split(key)
        draws = draw(draw_key, PUBLISHED)
        return draws, apply(noise_key, hr, draws, SCALE)

    keys = jax.random.split(jax.random.key(seed), ROWS * COLUMNS)
    draws, lr = jax.jit(partial(jax.lax.map, one))(keys)
    return jax.device_get(draws), np.round(np.asarray(lr) * 255).astype(np.uint8)


def described(draws: Draws) -> str:
    """Returns what was drawn for one image as a line."""

    def order(one: Order) -> str:
        blur = one.blur
        family = kernels.FAMILIES[int(blur.family)]
        shape = f"{family} {blur.size}"
        if family == "sinc":
            shape += f" below {blur.cutoff:.1f}"
        else:
            shape += f" ({blur.sigma_x:.1f}, {blur.sigma_y:.1f})"
            shape += f"^{blur.beta:.1f}" if blur.beta != 1 else ""
        noise = f"gaussian {255 * one.noise:.0f}" if one.gaussian else f"poisson {one.noise:.1f}"
        parts = [shape if one.blurred else "no blur", f"{MODES[int(one.mode)]} {one.scale:.2f}"]
        return ", ".join([*parts, noise + " gray" * bool(one.gray), f"jpeg {one.quality:.0f}"])

    sinc = f"sinc {draws.sinc.size} below {draws.sinc.cutoff:.1f}" if draws.filtered else "no sinc"
    last = f"{MODES[int(draws.mode)]}, {sinc}, {'then' if draws.jpeg_last else 'after'} jpeg"
    return "; ".join([order(draws.first), order(draws.second), last])


def sheet(tiles: np.ndarray) -> np.ndarray:
    """Puts (32, H, W, 3) tiles into ROWS rows, every pixel as a square of SCALE."""
    rows = tiles.reshape(ROWS, COLUMNS, *tiles.shape[1:]).transpose(0, 2, 1, 3, 4)
    whole = rows.reshape(ROWS * tiles.shape[1], COLUMNS * tiles.shape[2], 3)
    return whole.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.degradation_sheet", description=DESCRIPTION
    )
    parser.add_argument("image", type=path_type, help="the image to degrade")
    parser.add_argument("output", type=path_type, help="the figure to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers")
    args = parse(parser, argv)
    refuse_same(args.image, args.output)
    image = read_image(args.image)
    top, left = ((side - SIDE) // 2 for side in image.shape[:2])
    if min(top, left) < 0:
        raise InputError(f"{args.image} is smaller than {SIDE}x{SIDE} pixels: take a larger one")
    draws, tiles = degradations(image[top : top + SIDE, left : left + SIDE], args.seed)
    write_image(Path(args.output), sheet(tiles))
    for index in range(ROWS * COLUMNS):
        one = jax.tree.map(lambda x, index=index: x[index], draws)
        print(f"{index // COLUMNS + 1}.{index % COLUMNS + 1}: {described(one)}")


if __name__ == "__main__":
    run_command(main)
