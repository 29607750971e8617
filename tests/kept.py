"""Reads the table in docs/formats.md of what upscaling keeps, and checks results against it.

Each row names its test in an HTML comment: `<!-- gain-map -->`. The test is marked
`@pytest.mark.kept("gain-map")` and uses the fixture `outcome`, which upscales a file and checks
that the feature is kept, converted, noted or refused as the row says.
"""

import io
import json
import re
from pathlib import Path
from typing import NamedTuple

from esrgan_jax.batch.jobs import ResultOptions
from esrgan_jax.batch.report import Report
from esrgan_jax.batch.upscale_images import upscale_files
from esrgan_jax.upscaling.upscaler import Upscaler

DOC = Path(__file__).parents[1] / "docs" / "formats.md"
WORDS = {"kept", "converted", "noted", "refused"}
ROW = re.compile(r"^\|.+\| *([a-z, ]+?) *\|[^|]*<!-- *([\w-]+) *--> *\|$", re.M)


class Result(NamedTuple):
    """The notes on a file, the reason if it failed (else None), and the path of the result."""

    notes: list[str]
    failure: str | None
    path: Path


def rows() -> list[tuple[str, str]]:
    """Returns (name, outcome) of every row of the document."""
    return [(name, outcome) for outcome, name in ROW.findall(DOC.read_text())]


def enlarge(upscaler: Upscaler, source: Path, target: Path, **options) -> Result:
    """Upscales a file as the upscale command does."""
    out = io.StringIO()
    with Report("json", 1, out) as report:
        upscale_files(upscaler, [(source, target)], ResultOptions(**options), report)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    notes = [event["note"] for event in events if event["event"] == "note"]
    failures = [event["reason"] for event in events if event["event"] == "failed"]
    return Result(notes, failures[0] if failures else None, target)


def check(outcome: str, result: Result) -> None:
    """Asserts that a result is as its row says: "kept", "converted", "noted" or "refused"."""
    assert (result.failure is not None) == ("refused" in outcome), (outcome, result)
    assert bool(result.notes) == ("noted" in outcome), (outcome, result)
    assert result.path.exists() != ("refused" in outcome), (outcome, result)
