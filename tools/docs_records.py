"""The tables of docs that show records as they are: a file of records, and columns.

A line of docs/runs/NAME.jsonl is a record and a row. A column is a heading and a format of the
record. A cell is empty where the record lacks the value, and in the first column where it would
repeat what is above it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Columns(NamedTuple):
    """Headings and formats. The first `texts` columns are texts, the others numbers."""

    formats: Mapping[str, str]
    texts: int = 1

    def rows(self, records: list[dict[str, Any]]) -> list[list[str]]:
        """Returns the cells of the records."""
        rows = [[_cell(text, record) for text in self.formats.values()] for record in records]
        return [
            ["" if above and row[0] == above[0] else row[0], *row[1:]]
            for above, row in zip([None, *rows[:-1]], rows, strict=True)
        ]


def _cell(text: str, record: Mapping[str, Any]) -> str:
    try:
        return text.format_map(record)
    except (KeyError, IndexError):
        return ""


def _process(number: int) -> str:
    at = f"processes[{number}]"
    return f"{{{at}[rss_mib]}} MiB, {{{at}[threads]}}, {{{at}[descriptors]}}"


COLUMNS = {
    "alpha_masks": Columns(
        {
            "edges of the mask": "{edges}",
            "method": "{method}",
            **{kind: f"{{errors[{kind}]:.1f}}" for kind in ("circle", "text", "hair")},
        },
        texts=2,
    ),
    "alpha_circles": Columns(
        {"on circles": "{method}"}
        | {f"{kind} edges": f"{{{kind}:.1f}}" for kind in ("hard", "antialiased", "blurred")}
    ),
    "alpha_kodak": Columns(
        {"alpha": "{alpha}", "LPIPS on eight images of Kodak": "{lpips:.3f}"},
    ),
    "bfloat16": Columns(
        {
            "network": "{network}",
            "mean difference, of 255 levels": "{mean_difference:.1f}",
            "PSNR between the results": "{psnr:.1f} dB",
        }
    ),
    "convolutions": Columns(
        {
            "convolution": "{convolution}",
            "XLA": "{forward[xla]}",
            "as a product": "{forward[product]}",
            "gradient of x, XLA": "{gradient[xla]}",
            "gradient of x, as a product": "{gradient[product]}",
        }
    ),
    "core_hours": Columns({"core-hours": "{core_hours}", "dB": "{psnr_y}"}),
    "cost": Columns(
        {
            "a step with 16 images": "{stage}, HR patch {hr_patch}",
            "TFLOP": "{tflop:.2f}",
            "whole schedule, 1e18 operations": "{schedule} ({steps} steps)",
        }
    ),
    "first_minutes": Columns({"step": "{what}", "seconds": "{seconds:.0f}"}),
    "export": Columns(
        {
            "on two CPU cores": "{network}",
            "export": "{seconds} s",
            "peak memory": "{peak_gb} GB",
            "file": "{file_mb} MB",
        }
    ),
    "fsdp": Columns(
        {
            "stage": "{stage}",
            "": "{what}",
            "copies": "{copies_mb:.1f}",
            "`mesh.fsdp=8`": "{fsdp_mb:.1f}",
        },
        texts=2,
    ),
    "input_pipeline": Columns(
        {
            "source": "{case[source]}",
            "workers": "{case[workers]}",
            "patches per second": "{crops_per_s:.0f}",
            "processor ms per patch": "{cpu_ms_per_crop:.2f}",
        }
    ),
    "soak": Columns(
        {
            "at step": "{step}",
            "process 0: memory, threads, descriptors": _process(0),
            "process 1": _process(1),
        }
    ),
}
