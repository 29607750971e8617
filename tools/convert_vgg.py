"""Converts the weights of a VGG16 or VGG19 for the perceptual loss."""

import argparse

from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.files import refuse_same, sha256

DESCRIPTION = """Converts the weights of a VGG16 or VGG19 for the perceptual loss.

SRC is one of
  torchvision    features.0.weight … in a .pth, .pt, .ckpt, .safetensors or .npz file
  Keras          .h5 of weights or of a whole model, layers block1_conv1 …; needs h5py
  Caffe          .caffemodel, layers conv1_1 …
  vgg19          torchvision's file, downloaded (python -m esrgan_jax.interop.zoo)
The classifier and upper layers may be missing. DST is the .safetensors file that training reads.
DST records what the network expects as input, so the preset must match the weights:
  torchvision  RGB, 0 to 1, minus ImageNet's mean, divided by its standard deviation
  caffe        BGR, 0 to 255, minus (103.939, 116.779, 123.68): Oxford's original weights, which
               Keras has too; features are divided by 12.75, as in SRGAN
  minc         BGR, 0 to 255, minus (104, 117, 124), as the README of minc-vgg16.caffemodel says;
               features are divided by 12.75 as for caffe, which was not measured
The default is caffe for Keras and Caffe files, and torchvision for torchvision's own files. Others
with torchvision's names can be either, so they need --preset."""


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", type=path_type, help="weights to read")
    parser.add_argument(
        "target", metavar="DST", type=path_type, help="the .safetensors file to write"
    )
    parser.add_argument(
        "--preset",
        choices=("torchvision", "caffe", "minc"),
        help="the input that the weights were trained on (default: that of such files)",
    )
    args = parse(parser)
    if args.target.suffix != ".safetensors":
        raise InputError(f"{args.target}: DST must end in .safetensors")
    refuse_same(args.source, args.target)

    from esrgan_jax.interop import vgg_names, zoo

    source = zoo.resolve(args.source, "vgg")
    depth, params, preset = vgg_names.read_vgg(source, args.preset)
    digest = sha256(source)
    metadata = {"depth": str(depth), "preset": preset, "source": source.name, "sha256": digest}
    vgg_names.save_vgg(args.target, params, metadata)

    layers = vgg_names.present_layers(params)
    count = sum(array.size for name in layers for array in params[name].values())
    print(f"network     VGG{depth}")
    print(f"layers      {layers[0]} to {layers[-1]} ({len(layers)} convolutions)")
    print(f"parameters  {count:,}")
    print(f"preset      {preset}")
    print(f"sha256      {digest}  {source.name}")
    print(f"written     {args.target}")


if __name__ == "__main__":
    run_command(main)
