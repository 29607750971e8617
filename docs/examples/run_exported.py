"""Upscales an image with a file of tools/export.py: python run_exported.py MODEL INPUT OUTPUT.

Needs jax, flatbuffers, NumPy and Pillow; esrgan_jax need not be installed.
"""

import sys
from pathlib import Path

import numpy as np
from jax import export
from PIL import Image, ImageOps


def main(model: str, source: str, target: str) -> None:
    exported = export.deserialize(bytearray(Path(model).read_bytes()))

    if Path(target).exists() and Path(target).samefile(source):
        sys.exit(f"{target} would overwrite the input")
    image = ImageOps.exif_transpose(Image.open(source))
    if image.mode.startswith(("I", "F")):  # Pillow would cut their values off at 255
        sys.exit(f"{source} has more than 8 bits per channel: convert it first")
    image = image.convert("RGB")
    lr = np.asarray(image, np.float32)[None] / 255  # (1, h, w, 3) in [0, 1]

    # Compiled at the first call with a size, which takes seconds; then kept for that size.
    sr = np.asarray(exported.call(lr))[0]  # (scale h, scale w, 3), clamped to [0, 1]

    Image.fromarray(np.rint(sr * 255).astype(np.uint8)).save(target)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python run_exported.py MODEL INPUT OUTPUT")
    main(*sys.argv[1:])
