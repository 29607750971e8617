"""Converts a discriminator from and to BasicSR's names."""

import argparse
from pathlib import Path

from esrgan_jax.command_line import model_type, parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.files import refuse_same, sha256
from esrgan_jax.interop.weight_file import WEIGHT_SUFFIXES

DESCRIPTION = """Converts a discriminator from and to BasicSR's names.

SRC is the directory of a run or of a checkpoint of its GAN stage, or a weight file with the names
of BasicSR's VGGStyleDiscriminator or UNetDiscriminatorSN (.pth, .pt, .ckpt, .safetensors, .npz),
such as RealESRGAN_x4plus_netD.pth. DST is a .pth, .safetensors or .npz file that BasicSR reads.
Training can start from SRC or DST: --config.gan.d_init_from=PATH."""


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", type=model_type, help="the discriminator to read")
    parser.add_argument("target", metavar="DST", type=path_type, help="the file to write")
    parser.add_argument("--key", default="", help="the network to read if SRC has several: net_d")
    parser.add_argument(
        "--wrap",
        choices=("params", "params_ema", "none"),
        default="",
        help="key above the tensors of a .pth (default: params)",
    )
    args = parse(parser, argv)
    if args.target.suffix.lower() not in WEIGHT_SUFFIXES:
        raise InputError(f"{args.target}: DST must end in one of {', '.join(WEIGHT_SUFFIXES)}")
    source = Path(args.source)  # of gs://… it is no file
    refuse_same(source, args.target)

    import jax

    from esrgan_jax.checkpoint import load_discriminator, save_discriminator

    fields, variables = load_discriminator(args.source, key=args.key)
    save_discriminator(args.target, variables, args.wrap)
    count = sum(array.size for array in jax.tree.leaves(variables["params"]))
    kind, biases = "U-Net", ""
    if fields["name"] == "vgg":
        kind, biases = "VGG-style", f" {'with' if fields['use_bias'] else 'without'} biases before"
        biases += " normalisation,"
    print(
        f"architecture  {kind} discriminator, {fields['num_features']}nf,{biases} "
        f"{fields['in_channels']} channels"
    )
    if "hr_patch" in fields:
        print(f"hr_patch      {fields['hr_patch']}")
    print(f"parameters    {count:,}")
    if source.is_file():
        print(f"sha256        {sha256(source)}  {source.name}")
    print(f"written       {args.target}")
    print(f"sha256        {sha256(args.target)}  {args.target.name}")


if __name__ == "__main__":
    run_command(main)
