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
TITLES = {
    "upscale": "Upscaling",
    "train_step": "Training steps",
    "compile_for": "Compiled, not run",
}
PROGRAMS = {"psnr": "PSNR step", "gan": "GAN step", "upscale": "upscaling"}
RATES = {"upscale": ("output_mpx_per_s", "output MP/s"), "train_step": ("images_per_s", "images/s")}


def read_lines(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Reads the results from files of the commands.

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
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections(lines))


def sections(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Returns for each benchmark and machine a title, and a text: the machine, table and notes."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["benchmark"], _machine(line)), []).append(line)
    found = []
    for (name, machine), group in groups.items():
        rows, notes = _compiled(group) if name == "compile_for" else _table(name, group)
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts = [machine, table, "\n".join(dict.fromkeys(notes))]
        found.append((TITLES[name], "\n\n".join(part for part in parts if part)))
    return found


def _table(benchmark: str, lines: Sequence[Mapping[str, Any]]) -> tuple[list[list[str]], list[str]]:
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
    return rows, notes


def _compiled(lines: Sequence[Mapping[str, Any]]) -> tuple[list[list[str]], list[str]]:
    head = ["target", "program", "memory of a chip, GiB", "TFLOP", "compiled", "collectives, MiB"]
    head += ["ms, estimated", "TFLOP/s a chip", "of its peak"]
    rows = [head, ["---"] * 2 + ["---:"] * (len(head) - 2)]
    reasons = []
    for line in lines:
        case = line["case"]
        side = case.get("hr_patch") or case["tile"]
        work = f"{PROGRAMS[line['program']]}, {case['batch']} × {side}², {case['dtype']}"
        row = [line["target"], work + ", remat" * bool(case.get("remat"))]
        if "reason" in line:
            rows.append(row + ["–"] * (len(head) - 2))
            reasons.append(f"- {line['target']}, {work}: {line['reason']}")
            continue
        row.append(f"{line['memory_bytes'] / 2**30:.2f} of {line['chip_bytes'] / 2**30:.1f}")
        row += [_number(line["tflop"]), _number(line["tflop_compiled"])]
        sent = line["collectives"].items()
        each = [f"{v['count']} {kind}: {v['bytes'] / 2**20:.1f}" for kind, v in sent]
        row.append(", ".join(each) or "none")
        if "ms" in line:
            row += [_number(line["ms"]), _number(line["tflops_a_chip"]), f"{line['of_peak']:.1%}"]
        else:
            row += ["–"] * 3
        rows.append(row)
    return rows, reasons


def _work(line: Mapping[str, Any]) -> str:
    case = line["case"]
    if line["benchmark"] == "upscale":
        network = case["blocks"] if case["blocks"] == "lite" else f"{case['blocks']} blocks"
        files = f"{case['files']} files of " if case["files"] else ""
        return f"{network}, {files}{case['width']}×{case['height']} px"
    return f"{case['config']} {case['stage'].upper()}, batch {case['batch']}, {case['hr_patch']} px"


def _machine(line: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in line["versions"].items())
    if line["benchmark"] == "compile_for":
        return f"{versions}."
    devices = f"{line['devices']} × " if line.get("devices", 1) > 1 else ""
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
