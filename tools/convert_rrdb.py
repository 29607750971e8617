"""Converts an RRDB generator between weight files and checkpoints."""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from esrgan_jax.command_line import model_type, parse, path_type
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.files import refuse_same, sha256, write_text
from esrgan_jax.interop.weight_file import WEIGHT_SUFFIXES

DESCRIPTION = """Converts an RRDB generator between weight files and checkpoints.

SRC is a weight file in any naming (.pth, .pt, .ckpt, .safetensors, .npz), the directory of a run or
checkpoint, or the name of published weights (esrgan-jax models lists them). DST is a .pth,
.safetensors or .npz file or, without a suffix, an Orbax directory from which training can start
(--config.psnr.init_from=DST)."""


# OpenModelDB's names of file types.
RESOURCE_TYPES = {".pth": "pth", ".pt": "pth", ".ckpt": "pth", ".safetensors": "safetensors"}
FIELDS = (
    *("num_features", "num_growth", "num_blocks", "in_channels", "out_channels"),
    *("scale", "unshuffle", "plus", "upsampler"),
)


def main(argv: list[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", type=model_type, help="the generator to read")
    parser.add_argument(
        "target", metavar="DST", type=path_type, help="the file or directory to write"
    )
    parser.add_argument(
        "--naming",
        choices=("basicsr", "bsrgan", "old"),
        default="",
        help="names of the tensors: body.0.rdb1 (basicsr, the default), RRDB_trunk.0.RDB1 "
        "(bsrgan) or model.1.sub.0.RDB1 (old)",
    )
    parser.add_argument(
        "--wrap",
        choices=("params_ema", "params", "none"),
        default="",
        help="key above the tensors of a .pth (default: params_ema)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16", "float64"),
        default="",
        help="element type of a weight file (default: float32)",
    )
    parser.add_argument(
        "--key",
        default="",
        help="the network to read if SRC has several, such as params (default: averaged weights)",
    )
    parser.add_argument(
        "--scale",
        type=int,
        default=0,
        choices=(3,),
        help="SRC upscales three times, which its tensors do not show "
        "(name a weight file DST 3x_NAME)",
    )
    parser.add_argument(
        "--unshuffle",
        type=int,
        default=0,
        choices=(1, 2, 4, 8),
        help="the factor of SRC's pixel-unshuffle, 1 for none (default: s if it has s² times as "
        "many input as output channels); an Orbax DST keeps it, a weight file does not",
    )
    parser.add_argument(
        "--json", type=path_type, metavar="FILE", help="write an OpenModelDB entry for DST, a file"
    )
    args = parse(parser, argv)
    _check(args)

    import jax

    from esrgan_jax.bucket import is_bucket
    from esrgan_jax.checkpoint import load_generator, save_generator
    from esrgan_jax.interop import rrdb_names, weight_file, zoo
    from esrgan_jax.models.rrdb import RRDBNet

    model = args.source if is_bucket(args.source) else zoo.resolve(args.source)
    source = Path(model)  # of gs://… it is no file
    module, variables = load_generator(
        model, key=args.key, scale=args.scale, unshuffle=args.unshuffle
    )
    if not isinstance(module, RRDBNet):
        raise InputError(f"{model}: contains an SRResNet, not an RRDB network")
    fields = {k: getattr(module, k) for k in FIELDS}
    naming = "a checkpoint"
    if source.is_file():
        naming = rrdb_names.find_naming(weight_file.read_tensors(source, args.key))
    written = args.naming or "basicsr"
    save_generator(args.target, module, variables, written, args.wrap, args.dtype or "float32")

    count = sum(array.size for array in jax.tree.leaves(variables["params"]))
    print(f"naming        {naming}")
    print(f"architecture  RRDB, {_architecture(fields)}")
    print(f"scale         {fields['scale']}x")
    print(f"parameters    {count:,}")
    if source.is_file():
        print(f"sha256        {sha256(source)}  {source.name}")
    print(f"written       {args.target}")
    if args.target.suffix:
        print(f"sha256        {sha256(args.target)}  {args.target.name}")
        for note in rrdb_names.reader_notes(fields, written):
            print(f"note          other programs cannot read this file as it is: {note}")
    if args.json:
        entry = json.dumps(_entry(args.target, fields), indent=2)
        write_text(args.json, entry + "\n")
        print(f"written       {args.json}: add name, author, license, tags and urls yourself")


def _check(args: argparse.Namespace) -> None:
    """Raises InputError for options that are wrong whatever SRC contains."""
    from esrgan_jax.interop.rrdb_names import check_name

    refuse_same(Path(args.source), args.target)
    suffix = args.target.suffix.lower()
    if suffix and suffix not in WEIGHT_SUFFIXES:
        raise InputError(
            f"{args.target}: DST must end in one of {', '.join(WEIGHT_SUFFIXES)}, "
            "or have no suffix for a directory"
        )
    if not suffix and (args.naming or args.wrap or args.dtype):
        raise InputError("--naming, --wrap and --dtype are for weight files: give DST a suffix")
    if args.scale == 3:
        check_name(args.target, 3)
    if not args.json:
        return
    if suffix not in RESOURCE_TYPES:
        raise InputError(
            f"--json describes one of {', '.join(RESOURCE_TYPES)}: give DST such a suffix"
        )
    if args.json.suffix.lower() != ".json" or not args.json.parent.is_dir():
        raise InputError(
            f"--json={args.json}: give a name that ends in .json, in an existing folder"
        )


def _architecture(fields: dict[str, Any]) -> str:
    parts = [
        f"{fields['num_features']}nf {fields['num_blocks']}nb {fields['num_growth']}gc",
        f"{fields['in_channels']} to {fields['out_channels']} channels",
    ]
    if fields["unshuffle"] > 1:
        parts.append(f"pixel-unshuffle by {fields['unshuffle']}")
    if fields["upsampler"] != "upconv":
        parts.append(fields["upsampler"])
    if fields["plus"]:
        parts.append("ESRGAN+")
    return ", ".join(parts)


def _entry(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns an entry in OpenModelDB's schema; what only the author knows is empty."""
    resource = {
        "platform": "pytorch",
        "type": RESOURCE_TYPES[path.suffix.lower()],
        "size": path.stat().st_size,
        "sha256": sha256(path),
        "urls": [],
    }
    return {
        "name": path.stem,
        "author": "",
        "license": None,
        "tags": [],
        "description": "",
        "date": datetime.date.today().isoformat(),
        "architecture": "esrgan+" if fields["plus"] else "esrgan",
        "size": [f"{fields['num_features']}nf", f"{fields['num_blocks']}nb"],
        "scale": fields["scale"],
        "inputChannels": fields["in_channels"],
        "outputChannels": fields["out_channels"],
        "resources": [resource],
        "images": [],
    }


if __name__ == "__main__":
    run_command(main)
