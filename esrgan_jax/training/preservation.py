"""Which checkpoints of a run are kept: the newest ones, and the best by a validation score."""

import math
from collections.abc import Mapping
from typing import Any

from orbax.checkpoint import v1 as ocp

from esrgan_jax.evaluation.metrics import METRICS


def newest_and_best(newest: int, best: str) -> Any:
    """Returns Orbax's policy that keeps the `newest` checkpoints and the one with the best score.

    Args:
        newest: How many of the newest are kept.
        best: A name of METRICS. A checkpoint without this score, such as one from before the run
            had the metric, is never the best while another one has it. Nor is one whose score is
            infinite, as PSNR is if any result equals its image.
    """

    def rank(scores: Mapping[str, float]) -> float:
        score = scores.get(best, math.inf)
        return METRICS[best].rank(score) if math.isfinite(score) else -math.inf

    policies = ocp.training.preservation_policies
    first = policies.BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False)
    return policies.AnyPreservationPolicy([policies.LatestN(newest), first])
