"""The report of `benchmarks.accelerator`, in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import checks, table
from benchmarks.accelerator_cases import AIMS
from benchmarks.variants import VARIANTS

Record = Mapping[str, Any]


def report(records: Sequence[Record], budget: float, used: float, tiny: bool) -> str:
    """Returns the report of a run that may not have finished.

    Args:
        records: From `accelerator.run`.
        budget: Seconds that the run was given.
        used: Seconds that it has taken.
        tiny: Whether it was a rehearsal.
    """
    names = {status: [r["name"] for r in records if r["status"] == status] for status in STATUSES}
    counts = ", ".join(f"{len(found)} {status}" for status, found in names.items())
    parts = [
        "# Accelerator",
        "A rehearsal on tiny networks: its times mean nothing." if tiny else "",
        _machine(records),
        f"{len(records)} cases: {counts}. {used:.0f} of {budget:.0f} s were used.",
    ]
    bad = [r for r in records if "reason" in r]
    parts += [_section("Failed or stopped", [f"- {r['name']}: {r['reason']}." for r in bad])]
    if names["not run"]:
        rest = ",".join(names["not run"])
        parts += ["## Not run", "The budget did not suffice for these. To run them:"]
        parts += [f"```\nmake accelerator FLAGS=--cases={rest}\n```"]
    parts += [_checks(records), _comparisons(records), _variants(records)]
    return "\n\n".join(part for part in parts if part) + "\n"


STATUSES = ("done", "failed", "stopped", "not run")


def _results(records: Sequence[Record], group: str) -> dict[str, Any]:
    """Returns the results by name of the cases "group/…" that have one."""
    return {
        r["name"]: r["result"]
        for r in records
        if r["name"].split("/")[0] == group and "result" in r
    }


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(lines) if lines else ""


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows] if rows else []
    return [f"| {' | '.join(line)} |" for line in lines]


def _machine(records: Sequence[Record]) -> str:
    found = _results(records, "machine").get("machine")
    if found is None:
        return "The machine is not known."
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    peaks = ", ".join(f"{n} {rate:.3g}" for n, rate in found["matmul_tflops"].items())
    driver = f" ({found['nvidia_smi']})" if found["nvidia_smi"] else ""
    return (
        f"{found['devices']} × {found['device']}{driver}, {found['memory_gib']:.0f} GiB; "
        f"{found['processor']}, {found['threads']} threads; {versions}. "
        f"Matrix products: {peaks} TFLOP/s."
    )


def _checks(records: Sequence[Record]) -> str:
    rows = []
    for name, result in _results(records, "check").items():
        for precision, errors in result["errors"].items():
            limit = checks.LIMITS[precision]
            cells = [f"{errors[part]:.1e}" if part in errors else "" for part in checks.RESULTS]
            limits = [f"{limit.output:.0e}", f"{limit.gradient:.0e}"]
            verdict = "yes" if checks.passes(precision, errors) else "**no**"
            rows.append([name, precision, *cells, *limits, verdict])
    head = ["check", "precision", *checks.RESULTS, "limit", "of gradients", "passed"]
    return _section("Relative differences from float32 on the CPU", _rows(head, rows))


def _comparisons(records: Sequence[Record]) -> str:
    found = _results(records, "compare")
    if not found:
        return ""
    rows = []
    for name, aims in AIMS.items():
        for aim, wanted in aims.items():
            measured = _measured(found.get(name), aim)
            what = "TFLOP/s" if aim == "tflops" else f"speed over {table.NAMES[aim]}"
            value = "–" if measured is None else f"{measured:.3g}"
            met = "" if measured is None else "yes" if measured >= wanted else "no"
            rows.append([name, what, f"{wanted:g}", value, met])
    aims_table = _rows(["case", "aim", "wanted", "measured", "met"], rows)
    parts = [_section("Aims on an H100 or H200", aims_table), table.tables(list(found.values()))]
    if not any("torch_tuned" in line["sides"] for line in found.values()):
        parts.insert(0, "PyTorch is not installed here, so there is nothing to compare with.")
    return "\n\n".join(parts)


def _measured(line: Mapping[str, Any] | None, aim: str) -> float | None:
    """Returns our TFLOP/s or our speed over a peer's, or None if it was not measured."""
    sides = line["sides"] if line else {}
    ours, peer = sides.get("ours", {}), sides.get(aim, {})
    if aim == "tflops":
        return ours.get("tflops")
    return peer["ms"] / ours["ms"] if peer.get("ms") and ours.get("ms") else None


def _variants(records: Sequence[Record]) -> str:
    rows = []
    for work in dict.fromkeys(variant.work for variant in VARIANTS.values()):
        found = _results(records, work)
        base = found.get(next(name for name in VARIANTS if name.startswith(f"{work}/")))
        for name, result in found.items():
            variant = VARIANTS[name]
            speed = f"{result['rate'] / base['rate']:.2f}" if base else "–"
            memory = result["temporary_mb"]
            row = [name, f"{result['ms']:.4g}", f"{result['rate']:.4g}", f"{result['tflops']:.4g}"]
            row += ["–" if memory is None else f"{memory:.0f}", f"{result['compile_s']:.0f}"]
            rows.append([*row, f"{variant.predicted:.2f}", speed, variant.why])
    head = ["variant", "ms", "MP/s or images/s", "TFLOP/s", "temporary MB", "compile s"]
    head += ["predicted speed", "measured speed", "reason for the prediction"]
    return _section("Variants; speeds are relative to the base", _rows(head, rows))
