"""Converts the weights of a VGG16 or VGG19 for the perceptual loss."""

import argparse
import hashlib
from pathlib import Path

from esrgan_jax.errors import InputError, run_command

DESCRIPTION = """Converts the weights of a VGG16 or VGG19 for the perceptual loss.

SRC has torchvision's names (features.0.weight …) in a .pth, .pt, .ckpt, .safetensors or .npz file;
DST is the .safetensors file that training reads. What the network expects as input is recorded
in DST, so the preset must fit the weights: "torchvision" for those that torchvision trained (RGB,
ImageNet's mean and standard deviation), "caffe" for the original ones of Oxford (BGR, 0 to 255,
mean-subtracted), whose features are then divided by 12.75 as in SRGAN."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="weights to read")
    parser.add_argument("target", metavar="DST", type=Path, help="the .safetensors file to write")
    parser.add_argument(
        "--preset",
        choices=("torchvision", "caffe"),
        default="torchvision",
        help="what the weights were trained on (default: torchvision)",
    )
    args = parser.parse_args()
    if args.target.suffix != ".safetensors":
        raise InputError(f"{args.target}: DST must end in .safetensors")
    if args.target.exists() and args.source.exists() and args.target.samefile(args.source):
        raise InputError(f"{args.target}: SRC and DST are the same file")

    from esrgan_jax.interop import vgg_names, weight_file

    tensors = weight_file.read_tensors(args.source)
    depth, params = vgg_names.from_torch(tensors, args.preset, str(args.source))
    with args.source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    metadata = {
        "depth": str(depth),
        "preset": args.preset,
        "source": args.source.name,
        "sha256": sha256,
    }
    vgg_names.save_vgg(args.target, params, metadata)

    layers = vgg_names.present_layers(params)
    count = sum(array.size for name in layers for array in params[name].values())
    print(f"network     VGG{depth}")
    print(f"layers      {layers[0]} to {layers[-1]} ({len(layers)} convolutions)")
    print(f"parameters  {count:,}")
    print(f"preset      {args.preset}")
    print(f"sha256      {sha256}  {args.source.name}")
    print(f"written     {args.target}")


if __name__ == "__main__":
    run_command(main)
