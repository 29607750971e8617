"""Exports a generator as one StableHLO file that runs with JAX alone, on several platforms."""

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esrgan_jax.blend import add_blend_arguments
from esrgan_jax.command_line import model_type, parse, path_type
from esrgan_jax.errors import InputError, missing, run_command
from esrgan_jax.files import refuse_same, sha256, write_bytes
from esrgan_jax.interop.weight_file import WEIGHT_SUFFIXES

if TYPE_CHECKING:
    import jax
    from jax.export import Exported

DESCRIPTION = """Exports a generator as one StableHLO file that runs with JAX alone.

MODEL is the directory of a run or checkpoint, a weight file (.pth, .pt, .ckpt, .safetensors, .npz)
or the name of published weights (esrgan-jax models lists them). OUTPUT, such as NAME.stablehlo,
contains the program and its weights, for batches and images of any size. Input and output are
float32 (batch, height, width, channels) in [0, 1]; the output is scale times as high and wide.
docs/examples/run_exported.py runs it without this package."""

PLATFORMS = ("cpu", "cuda", "tpu", "rocm")  # those that jax.export supports without plugins


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", type=model_type, help="the generator to export")
    parser.add_argument("output", metavar="OUTPUT", type=path_type, help="the file to write")
    add_blend_arguments(parser)
    parser.add_argument(
        "--platforms",
        metavar="P,…",
        default="cpu,cuda,tpu",
        help=f"the platforms to run on, from {', '.join(PLATFORMS)}; this machine need not have "
        "them (default: %(default)s)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="the dtype of the computation; bfloat16 halves the file (default: %(default)s)",
    )
    args = parse(parser, argv)
    platforms = _platforms(args.platforms)
    _check(args)

    import jax

    from esrgan_jax.checkpoint import load_generator
    from esrgan_jax.interpolation import load_blend

    # Otherwise the file, which may be published, would contain paths of this machine.
    jax.config.update("jax_traceback_in_locations_limit", 0)

    name = Path(args.model).resolve().name  # of gs://… the last part, too
    if args.psnr_model is None:
        module, variables = load_generator(args.model)
    else:
        module, variables = load_blend(args.psnr_model, args.model, args.alpha)
        psnr_name = Path(args.psnr_model).resolve().name
        name = f"{1 - args.alpha:g} {psnr_name} + {args.alpha:g} {name}"
    module = module.clone(dtype=jax.numpy.dtype(args.dtype))
    exported = export_generator(module, variables, name, platforms)
    write_bytes(args.output, bytes(exported.serialize()))

    print(f"network       {type(module).__name__} x{module.scale}, {args.dtype}")
    print(f"name          {exported.fun_name}")
    print(f"input         {exported.in_avals[0]} in [0, 1]")
    print(f"output        {exported.out_avals[0]} clamped to [0, 1]")
    print(f"platforms     {', '.join(exported.platforms)}")
    print(f"jax           {jax.__version__}")
    print(f"written       {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")
    print(f"sha256        {sha256(args.output)}  {args.output.name}")


def _check(args: argparse.Namespace) -> None:
    """Raises InputError for options that are wrong whatever MODEL contains."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise missing("exported files", "flatbuffers", "flatbuffers")
    if (args.psnr_model is None) != (args.alpha is None):
        raise InputError(
            "--psnr_model and --alpha go together: give both to interpolate two networks, or "
            "neither"
        )
    if args.output.suffix.lower() in WEIGHT_SUFFIXES:
        raise InputError(
            f"{args.output}: this suffix is for weight files, which tools/convert_rrdb.py writes; "
            "name it NAME.stablehlo"
        )
    for source in (args.model, args.psnr_model):
        if source is not None:
            refuse_same(Path(source), args.output)


def _platforms(text: str) -> tuple[str, ...]:
    """Parses a list of platforms such as "cpu,cuda"; repeated names are dropped."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in PLATFORMS:
            raise InputError(
                f"--platforms={text}: there is no platform {name!r}; "
                f"choose from {', '.join(PLATFORMS)}, separated by commas"
            )
    return names


def export_generator(
    module: Any, variables: Mapping[str, Any], name: str, platforms: Sequence[str]
) -> "Exported":
    """Exports a generator as a program that contains its weights as constants.

    Args:
        module: The generator, `RRDBNet` or `SRResNet`; the program computes in its dtype, and
            products of float32 in full precision on every platform.
        variables: The variables of the generator, {"params", "batch_stats"}, as float32 arrays.
        name: The name of the program, `fun_name` in JAX.
        platforms: The platforms of the program: "cpu", "cuda", "tpu", "rocm". This machine need not
            have them.

    Returns:
        The program from float32 (b, h, w, in_channels) in [0, 1] to float32
        (b, scale h, scale w, out_channels), clamped to [0, 1], for b, h and w of 1 or more. Sizes
        that are not a multiple of `unshuffle` are mirrored at the right and at the bottom, and the
        result is cropped, as in `Upscaler`.
    """
    import jax
    from jax import export

    multiple, scale = module.size_multiple, module.scale
    variables = {**variables, "params": _narrowed(variables["params"], module.dtype)}

    def upscale(lr: "jax.Array") -> "jax.Array":
        height, width = lr.shape[1:3]
        if multiple > 1:
            lr = lr[:, _mirrored(height, multiple)][:, :, _mirrored(width, multiple)]
        sr = module.apply(variables, lr)
        return sr[:, : scale * height, : scale * width].clip(0, 1)

    upscale.__name__ = name
    shape = (*export.symbolic_shape("b, h, w"), module.in_channels)
    exact = module.dtype == jax.numpy.float32
    with jax.default_matmul_precision("highest" if exact else None):
        return export.export(jax.jit(upscale), platforms=tuple(platforms))(
            jax.ShapeDtypeStruct(shape, jax.numpy.float32)
        )


def _mirrored(size: Any, multiple: int) -> "jax.Array":
    """Returns the indices that pad an axis at its end to the next multiple by mirroring.

    The padding is NumPy's "reflect"; an axis of one pixel repeats it. `size` may be symbolic, which
    `jnp.pad` does not support.
    """
    import jax.numpy as jnp

    # JAX can prove that this is a multiple; for size + -size % multiple it cannot.
    padded = -(-size // multiple) * multiple
    period = jnp.maximum(2 * (size - 1), 1)
    index = jnp.arange(padded) % period
    return jnp.minimum(index, period - index)


def _narrowed(params: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Returns the parameters with those of convolutions cast to the dtype they compute in.

    The last convolution, normalisation and PReLU compute in float32 and keep it.
    """
    narrowed = {}
    for name, value in params.items():
        if not isinstance(value, Mapping) or name == "conv_last":
            narrowed[name] = value
        elif "kernel" in value:
            narrowed[name] = {key: leaf.astype(dtype) for key, leaf in value.items()}
        else:
            narrowed[name] = _narrowed(value, dtype)
    return narrowed


if __name__ == "__main__":
    run_command(main)
