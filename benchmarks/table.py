"""Prints results as Markdown tables: python -m benchmarks.table upscale.jsonl train_step.jsonl"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esrgan_jax.command_line import parse
from esrgan_jax.errors import InputError, run_command

NAMES = {
    "ours": "ours",
    "torch_shipped": "PyTorch, as shipped",
    "torch_channels_last": "PyTorch, channels_last",
    "torch_tuned": "PyTorch, compiled",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
TITLES = {"upscale": "Upscaling", "train_step": "Training steps"}
RATES = {"upscale": ("output_mpx_per_s", "output MP/s"), "train_step": ("images_per_s", "images/s")}


def read_lines(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Reads the results from files of the two commands.

    Raises:
        InputError: A file is missing, or a line is none of theirs.
    """
    lines = []
    for path in paths:
        try:
            texts = path.read_text().splitlines()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        for number, text in enumerate(texts, 1):
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if not isinstance(line, dict) or line.get("benchmark") not in TITLES:
                raise InputError(f"{path}, line {number}: is not a result of a benchmark")
            lines.append(line)
    return lines


def tables(lines: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table for each benchmark and machine, with a row for each side."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["benchmark"], _machine(line)), []).append(line)
    return "\n\n".join(_table(*key, group) for key, group in groups.items())


def _table(benchmark: str, machine: str, lines: Sequence[Mapping[str, Any]]) -> str:
    key, unit = RATES[benchmark]
    head = ["work", "side", "precision", "ms", "of fastest peer", unit, "TFLOP/s", "of matmul"]
    head += ["peak MB", "compile s"]
    rows = [head, ["---"] * 3 + ["---:"] * (len(head) - 3)]
    notes = []
    for line in lines:
        work = _work(line)
        if (count := line["case"].get("our_tiles", 1)) > 1:
            notes.append(f"- {work}: ours in {count} tiles of {line['case']['our_tile']} px.")
        for name, side in line["sides"].items():
            row = [work, NAMES.get(name, name), side["precision"]]
            if side["ms"] is None:
                rows.append(row + ["–"] * (len(head) - 3))
                notes.append(f"- {work}, {NAMES.get(name, name)}: {side['reason']}")
                continue
            ratio = side.get("of_fastest_peer")
            row += [_number(side["ms"]), "" if ratio is None else f"{ratio:.2f}"]
            row += [_number(side[key]), _number(side["tflops"]), f"{side['of_matmul_peak']:.0%}"]
            rows.append([*row, f"{side['peak_mb']:.0f}", _number(side["compile_s"])])
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    parts = [f"### {TITLES[benchmark]}", machine, text]
    return "\n\n".join(parts + (["\n".join(dict.fromkeys(notes))] if notes else []))


def _work(line: Mapping[str, Any]) -> str:
    case = line["case"]
    if line["benchmark"] == "upscale":
        network = case["blocks"] if case["blocks"] == "lite" else f"{case['blocks']} blocks"
        files = f"{case['files']} files of " if case["files"] else ""
        return f"{network}, {files}{case['width']}×{case['height']} px"
    return f"{case['config']} {case['stage'].upper()}, batch {case['batch']}, {case['hr_patch']} px"


def _machine(line: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in line["versions"].items())
    devices = f"{line['devices']} × " if line["devices"] > 1 else ""
    return f"{devices}{line['device']}, {line['threads']} CPU threads; {versions}."


def _number(value: float) -> str:
    """Rounds to three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.table", description="Print results as Markdown tables."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="lines of JSON")
    print(tables(read_lines(parse(parser, argv).files)))


if __name__ == "__main__":
    run_command(main)
