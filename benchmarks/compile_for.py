"""Compiles training and upscaling for accelerators that are not there, to plan a run.

    python -m benchmarks.compile_for --config=configs/x4.py --target=v5e:2x2 > compile_for.jsonl

It tells whether a program compiles, the memory of each device, the operations, what the devices
send each other and, on TPUs, the compiler's estimate of the time. Nothing is run.
"""

import argparse
import ast
import itertools
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import hlo, programs, results, table, targets, timing
from esrgan_jax import sharding
from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, run_command
from esrgan_jax.main import load_config
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.setting_rules import STAGES
from esrgan_jax.training.settings import check_run

PROGRAMS = ("psnr", "gan", "upscale")


def compile_case(
    program: str, target: str, config: Config, tile: int, batch: int
) -> dict[str, Any]:
    """Compiles a program in a process that has not used JAX yet, and returns its line of JSON.

    Args:
        program: "psnr", "gan" or "upscale".
        target: Such as "v5e:2x2".
        config: A run's config.
        tile: Side of the tiles of "upscale".
        batch: Its tiles on each device.
    """
    kind = target.partition(":")[0]
    chip, devices = targets.CHIPS[kind], targets.devices(target)
    if program == "upscale":
        mesh = sharding.create_mesh(devices)
        built = programs.upscaling(config, mesh, tile, batch)
    else:
        check_run(config, len(devices))
        mesh = sharding.create_mesh(devices, config.mesh.fsdp)
        built = programs.training_step(config, mesh, program)
    line: dict[str, Any] = {
        "benchmark": "compile_for",
        "target": target,
        "device": mesh.devices.flat[0].device_kind,
        "devices": mesh.size,
        "versions": timing.versions("jax", "jaxlib", "flax", *chip.compilers),
        "program": program,
        "case": built.case,
        "tflop": built.flop / 1e12,
        "parameter_bytes": built.parameter_bytes,
    }
    began = time.perf_counter()
    try:
        compiled = built.lowered.compile(targets.GPU_OPTIONS if kind == "h100" else None)
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0]
        return line | {"reason": " ".join(reason.split())[:300]}
    found, cost = compiled.memory_analysis(), hlo.cost(compiled.as_text())
    # Results of donated arguments lie in their place.
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    line |= {
        "compile_s": time.perf_counter() - began,
        "memory_bytes": held + found.temp_size_in_bytes + found.generated_code_size_in_bytes,
        "temporary_bytes": found.temp_size_in_bytes,
        "chip_bytes": chip.memory,
        "tflop_compiled": cost.flop * mesh.size / 1e12,
        "collectives": {
            name: {"count": count, "bytes": size}
            for name, (count, size) in cost.collectives.items()
        },
    }
    if cost.cycles and chip.clock_ghz:
        seconds = cost.cycles / chip.clock_ghz / 1e9
        rate = built.flop / mesh.size / seconds / 1e12
        line |= {"ms": 1e3 * seconds, "tflops_a_chip": rate, "of_peak": rate / chip.tflops}
    if cost.endless:
        line["loops_of_unknown_length"] = cost.endless
    return line


def change(config: Config, arguments: Sequence[str]) -> None:
    """Changes settings by arguments such as --config.psnr.batch_size=32.

    Raises:
        InputError: There is no such setting, or its value is of another type.
    """
    config.lock()
    for argument in arguments:
        key, _, text = argument.removeprefix("--config.").partition("=")
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = text
        try:
            config.update_from_flattened_dict({key: value})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{argument}: {' '.join(str(error).split())}") from None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compile_for",
        description="Compile the programs of a config for accelerators that are not there, print "
        "a line of JSON for each, and a table on stderr.",
    )
    parser.add_argument(
        "--config",
        required=True,
        help="a config, such as configs/x4.py; "
        "--config.KEY=VALUE changes a setting, as in training",
    )
    parser.add_argument(
        "--target",
        required=True,
        type=results.comma_list(str),
        help=f"{', '.join(targets.CHIPS)}, and their layout: v5e:2x2, h100:4",
    )
    parser.add_argument(
        "--program",
        type=results.comma_list(str),
        default=None,
        help="psnr, gan, upscale (default: the config's stages, and upscale)",
    )
    parser.add_argument(
        "--tile",
        type=results.comma_list(int),
        default=[256],
        help="sides of the tiles of upscale (default 256)",
    )
    parser.add_argument("--batch", type=int, default=8, help="tiles on each device (default 8)")
    argv = list(sys.argv[1:] if argv is None else argv)
    changes = [argument for argument in argv if argument.startswith("--config.")]
    args = parse(parser, [argument for argument in argv if argument not in changes])
    config = load_config(args.config)
    change(config, changes)
    config.data.train = config.data.train or "photographs"  # which no program depends on
    names = args.program or [*STAGES[config.stage], "upscale"]
    for program in names:
        if program not in PROGRAMS:
            raise InputError(f"--program={program}: choose {', '.join(PROGRAMS)}")
    if min(*args.tile, args.batch) < 1:
        raise InputError("--tile and --batch: take 1 or more")
    for target in args.target:
        targets.check(target)
    lines = []
    for target, program in itertools.product(args.target, names):
        for tile in args.tile if program == "upscale" else (0,):
            print(f"{target}: {program}", file=sys.stderr, flush=True)
            case = program, target, config, tile, args.batch
            lines.append(results.rounded(timing.in_fresh_process(compile_case, *case)))
            print(json.dumps(lines[-1]), flush=True)
    print(table.tables(lines), file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
