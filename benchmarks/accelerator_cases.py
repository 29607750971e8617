"""What `benchmarks.accelerator` does, the most valuable first."""

from typing import Any, NamedTuple

from benchmarks.checks import CHECKS, LIMITS
from benchmarks.variants import VARIANTS


class Case(NamedTuple):
    """One case.

    Attributes:
        name: Its key in results, "check/rrdb".
        seconds: That it may take on an H100, compilation included: a guess until measured there.
        kind: A key of `accelerator_worker.DOES`.
        arguments: Of that function.
        fresh: Whether it needs a new process, because the peak of JAX's memory is of the process.
    """

    name: str
    seconds: int
    kind: str
    arguments: dict[str, Any]
    fresh: bool = False


# Aims of the comparisons: our speed over PyTorch's, and operations.
AIMS = {
    "compare/upscale": {"torch_tuned": 1.5, "torch_shipped": 3.0, "tflops": 250},
    "compare/gan": {"torch_tuned": 1.3, "torch_shipped": 2.5, "tflops": 140},
}


def cases(tiny: bool) -> list[Case]:
    """Returns all cases; with `tiny`, the same on tiny networks, all in one process."""
    return [
        Case("machine", 15, "machine", {}),
        *(_check(name, tiny) for name in CHECKS),
        _upscale("compare/upscale", 90, 23, "960x540", tiny),
        _train_step("compare/gan", 150, "gan", tiny),
        *_variants("upscale", 15, tiny),
        _train_step("compare/psnr", 120, "psnr", tiny),
        *_variants("psnr", 40, tiny),
        *_variants("gan", 60, tiny),
        _upscale("compare/upscale-6-blocks", 60, 6, "1920x1080", tiny),
    ]


def _check(name: str, tiny: bool) -> Case:
    precisions = ["float32"] if tiny else list(LIMITS)
    arguments = {"name": name, "tiny": tiny, "precisions": precisions}
    return Case(f"check/{name}", 25 if name.endswith("step") else 10, "check", arguments)


def _variants(work: str, seconds: int, tiny: bool) -> list[Case]:
    return [
        Case(name, seconds, "variant", {"name": name, "tiny": tiny})
        for name, variant in VARIANTS.items()
        if variant.work == work
    ]


def _upscale(name: str, seconds: int, blocks: int, size: str, tiny: bool) -> Case:
    case: dict[str, Any] = {"blocks": str(blocks), "size": size, "files": 0, "dtype": "bfloat16"}
    case |= {"repeats": 20}
    if tiny:
        case |= {"blocks": "1", "size": "8x6", **_TINY}
    return Case(name, seconds, "compare", {"benchmark": "upscale", "case": case}, not tiny)


def _train_step(name: str, seconds: int, stage: str, tiny: bool) -> Case:
    case: dict[str, Any] = {"name": "x4", "stage": stage, "batch": 16, "patch": 128}
    case |= {"dtype": "bfloat16", "repeats": 20}
    if tiny:
        case |= {"batch": 8, "patch": 32, "blocks": 1, "features": ["conv1_2"], **_TINY}
    return Case(name, seconds, "compare", {"benchmark": "train_step", "case": case}, not tiny)


_TINY = {"num_features": 4, "num_growth": 2, "dtype": "float32", "repeats": 1}
