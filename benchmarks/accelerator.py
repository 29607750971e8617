"""Does all that needs an accelerator in one call of limited time: python -m benchmarks.accelerator

It compares networks and training steps with the CPU, times them next to PyTorch, and times what
only an accelerator can decide. `results.jsonl` and `report.md` are written after every case.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.accelerator_cases import Case, cases
from benchmarks.accelerator_report import report
from esrgan_jax.command_line import parse, path_type
from esrgan_jax.errors import InputError, RunError, run_command
from esrgan_jax.files import write_text

BUDGET = 510  # seconds; nine minutes less half a minute for the start


def run(chosen: Sequence[Case], budget: float, folder: Path, tiny: bool) -> list[dict[str, Any]]:
    """Does the cases in order and writes the results into the folder after each.

    A case is not started if it may take longer than what is left of the budget. One that is not
    done when the budget ends is stopped.

    Args:
        chosen: The cases.
        budget: Seconds.
        folder: Gets `results.jsonl`, `report.md` and `log.txt`, which has what the cases print.
        tiny: Starts a case while anything is left of the budget.

    Returns:
        A record for each case: {"name", "status" ("done", "failed", "stopped", "not run"),
        "seconds", and "result" or "reason"}.
    """
    end = time.monotonic() + budget
    records = [{"name": case.name, "status": "not run", "seconds": 0.0} for case in chosen]
    worker = None

    def write() -> None:
        lines = [json.dumps(record) for record in records if record["status"] != "not run"]
        write_text(folder / "results.jsonl", "".join(f"{line}\n" for line in lines))
        used = budget - max(0.0, end - time.monotonic())
        write_text(folder / "report.md", report(records, budget, used, tiny))

    write()
    with (folder / "log.txt").open("w") as log:
        try:
            for case, record in zip(chosen, records, strict=True):
                left = end - time.monotonic()
                if left <= (0 if tiny else case.seconds):
                    continue
                if case.fresh or worker is None:
                    stop(worker)
                    worker = start(log)
                began = time.monotonic()
                record |= ask(worker, case, left)
                record["seconds"] = round(time.monotonic() - began, 1)
                if case.fresh or record["status"] == "stopped" or worker.poll() is not None:
                    stop(worker)
                    worker = None
                write()
                left = max(0, end - time.monotonic())
                print(_progress(record, left), file=sys.stderr, flush=True)
        finally:
            stop(worker)
    write()
    return records


def start(log: IO[str]) -> subprocess.Popen[bytes]:
    """Starts a process that does cases; what it prints goes to the log."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.accelerator_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        bufsize=0,  # nothing that `select` does not see
        start_new_session=True,  # so that it is stopped together with its own processes
    )


def ask(worker: subprocess.Popen[bytes], case: Case, seconds: float) -> dict[str, Any]:
    """Has a worker do a case.

    Returns:
        {"status": "done", "result"}, or {"status": "failed" or "stopped", "reason"}.
    """
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(f"{json.dumps([case.kind, case.arguments])}\n".encode())
        if not select.select([worker.stdout], [], [], seconds)[0]:
            return {"status": "stopped", "reason": "the budget ended before it was done"}
        line = worker.stdout.readline()
    except BrokenPipeError:
        line = b""
    if not line:
        code = worker.wait()
        return {
            "status": "failed",
            "reason": f"its process ended with {_ending(code)}; see log.txt",
        }
    answer = json.loads(line)
    if "reason" in answer:
        return {"status": "failed", **answer}
    if answer["result"].get("passed", True):
        return {"status": "done", **answer}
    return {"status": "failed", "reason": "differs too much from the CPU", **answer}


def stop(worker: subprocess.Popen[bytes] | None) -> None:
    """Ends a worker and the processes that it started."""
    if worker is not None:
        with worker, contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _progress(record: dict[str, Any], left: float) -> str:
    reason = f": {record['reason']}" if "reason" in record else ""
    return (
        f"{record['name']}: {record['status']} in {record['seconds']} s, {left:.0f} s left{reason}"
    )


def choose(names: str, all_cases: Sequence[Case]) -> list[Case]:
    """Returns the cases of these names or groups, and always the first, which is the machine.

    Args:
        names: Comma-separated: "check/rrdb", or "check" for all whose name begins with "check/".

    Raises:
        InputError: A name is none of theirs.
    """
    wanted = names.split(",")
    known = {case.name for case in all_cases} | {case.name.split("/")[0] for case in all_cases}
    if unknown := [name for name in wanted if name not in known]:
        raise InputError(f"--cases={','.join(unknown)}: choose from {', '.join(sorted(known))}")
    chosen = [c for c in all_cases[1:] if c.name in wanted or c.name.split("/")[0] in wanted]
    return [all_cases[0], *chosen]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator",
        description="Check and time everything that needs an accelerator, and write a report.",
    )
    default = Path(os.environ.get("OUT") or "build/accelerator")
    parser.add_argument(
        "--output",
        type=path_type,
        default=default,
        help="folder of the results (default: the variable OUT, otherwise build/accelerator)",
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET, help=f"seconds in all (default {BUDGET})"
    )
    parser.add_argument("--cases", help="only these, such as check,psnr/base (default: all)")
    parser.add_argument(
        "--tiny", action="store_true", help="rehearse on tiny networks, on any device"
    )
    args = parse(parser, argv)
    chosen = cases(args.tiny)
    if args.cases is not None:
        chosen = choose(args.cases, chosen)
    args.output.mkdir(parents=True, exist_ok=True)
    records = run(chosen, args.budget, args.output, args.tiny)
    print(args.output / "report.md")
    if failed := [record["name"] for record in records if record["status"] == "failed"]:
        count = "1 case" if len(failed) == 1 else f"{len(failed)} cases"
        raise RunError(f"{count} failed: {', '.join(failed)}; see {args.output / 'report.md'}")


if __name__ == "__main__":
    run_command(main)
