"""Does cases of `benchmarks.accelerator`, a line of JSON in and one out for each.

In a process of its own, so that what crashes or hangs there ends one case.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import checks, results, timing, train_step, upscale, variants


def machine() -> dict[str, Any]:
    """Describes the machine, and how fast it multiplies matrices."""
    memory = jax.devices()[0].memory_stats() or {}
    dtypes = ("float32",) if jax.default_backend() == "cpu" else ("float32", "bfloat16")
    return {
        **timing.machine(),
        "memory_gib": memory.get("bytes_limit", 0) / 2**30,
        "matmul_tflops": {dtype: timing.matmul_tflops(dtype) for dtype in dtypes},
        "nvidia_smi": _nvidia_smi(),
    }


def _nvidia_smi() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,power.limit", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def compare(benchmark: str, case: dict[str, Any]) -> dict[str, Any]:
    """Measures a case of `benchmarks.upscale` or `benchmarks.train_step`.

    Next to PyTorch where it is installed.
    """
    measure_case = {"upscale": upscale.measure_case, "train_step": train_step.measure_case}
    peer = [] if results.missing("torch") else ["torch"]
    return results.measured(measure_case[benchmark], {**case, "peer": peer})


DOES: dict[str, Callable[..., dict[str, Any]]] = {
    "machine": machine,
    "check": checks.check,
    "compare": compare,
    "variant": variants.measure,
}


def main() -> None:
    # Whatever else prints goes to stderr; stdout is for the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        kind, arguments = json.loads(line)
        print(f"{kind} {arguments}", file=sys.stderr, flush=True)
        try:
            answer = {"result": results.rounded(DOES[kind](**arguments))}
        # No memory, an unknown flag, a missing package: whatever the cause, the other cases go on.
        except Exception as error:
            answer = {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
