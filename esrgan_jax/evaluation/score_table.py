"""Tables of scores as text, Markdown, CSV and JSON.

`columns` are the rows of each method, such as {"bicubic": rows, "my_net": rows}. A row is
{"name": image, "psnr_y": 28.4, …}. All methods have the same images in the same order and the same
metrics. NaN means that there is no value, since the image lacks what the metric needs.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from esrgan_jax.errors import printable
from esrgan_jax.evaluation.metrics import METRICS, mean_scores
from esrgan_jax.files import finite_only

Rows = Sequence[Mapping[str, Any]]
WIDEST = 120  # assumed width of a terminal, in characters


def score_table(columns: Mapping[str, Rows]) -> str:
    """Returns a table for a terminal: images and the mean as lines, methods as columns.

    If that is wider than a terminal, the table has only the means, a line for each method.
    """
    means = {method: mean_scores(rows) for method, rows in columns.items()}
    names = [printable(name) for name in _names(columns)]
    blocks = [_block(method, [*rows, means[method]]) for method, rows in columns.items()]
    lines = _side_by_side(["", "image", *names, "mean"], blocks)
    if max(map(len, lines)) > WIDEST:
        head = f"mean of {len(names)}"
        return "\n".join(_side_by_side(["", head, *means], [_block("", [*means.values()])])[1:])
    lines.insert(-1, "-" * len(lines[-1]))
    return "\n".join(lines)


def _block(title: str, rows: Rows) -> list[str]:
    """Returns a title, the headings of the metrics and a line for each row, all of one width."""
    metrics = _metrics(rows)
    cells = [[METRICS[name].heading for name in metrics]]
    cells += [[METRICS[name].shown(row[name]) for name in metrics] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" ".join(map(str.rjust, row, widths)) for row in cells]
    width = max(len(title), len(lines[0]))
    return [title.center(width), *(line.rjust(width) for line in lines)]


def _side_by_side(names: Sequence[str], blocks: Iterable[Sequence[str]]) -> list[str]:
    width = max(map(len, names))
    return [
        "  ".join([name.ljust(width), *parts]).rstrip()
        for name, *parts in zip(names, *blocks, strict=True)
    ]


def markdown(title: str, columns: Mapping[str, Rows]) -> str:
    """Returns tables for GitHub: the means, then all images by metric; the best are in bold."""
    rows = [*columns.values()]
    metrics = _metrics(rows[0])
    headings = {name: METRICS[name].arrowed for name in metrics}
    means = [mean_scores(each) for each in rows]
    cells = [_marked(name, [mean[name] for mean in means]) for name in metrics]
    tables = [_github([title, *headings.values()], zip(columns, *cells, strict=True))]
    for name, heading in headings.items():
        lines = [
            [image, *_marked(name, [each[index][name] for each in rows])]
            for index, image in enumerate(_names(columns))
        ]
        tables.append(_github([heading, *columns], lines))
    return "\n".join(tables)


def _marked(metric: str, values: Sequence[float]) -> list[str]:
    """Returns the values as printed; those printed like the best one are in bold."""
    valid = [value for value in values if not math.isnan(value)]
    best = METRICS[metric].shown(METRICS[metric].best(valid)) if valid else ""
    texts = [METRICS[metric].shown(value) for value in values]
    return [f"**{text}**" if text == best else text for text in texts]


def _github(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(cell.replace("|", r"\|") for cell in row) for row in [head, *rows]]
    lines.insert(1, " | ".join(["---", *("--:" for _ in head[1:])]))
    return "".join(f"| {line} |\n" for line in lines)


def csv_text(columns: Mapping[str, Rows]) -> str:
    """Returns CSV for spreadsheets and pandas: a line for each image and method, then "mean".

    Scores have all their digits. An infinite score is "inf"; NaN is an empty cell.
    """
    metrics = _metrics(next(iter(columns.values())))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "method", *metrics])
    for index, image in enumerate([*_names(columns), "mean"]):
        for method, rows in columns.items():
            row = rows[index] if index < len(rows) else mean_scores(rows)
            values = ["" if math.isnan(row[name]) else row[name] for name in metrics]
            writer.writerow([image, method, *values])
    return text.getvalue()


def report(
    dataset: str, scale: int, rows: Rows, columns: Mapping[str, Rows] | None = None
) -> dict[str, Any]:
    """Returns the scores for JSON; NaN and infinity (the PSNR of equal images) become None.

    Args:
        dataset: The name of the image folder.
        scale: The scale of the models.
        rows: The rows of the model, or of the first of several.
        columns: The rows of several models and of bicubic.

    Returns:
        {"dataset", "scale", "images": rows, "mean"}, and with `columns` also "models": a list of
        {"model", "images", "mean"}.
    """
    result = {"dataset": dataset, "scale": scale, **_scored(rows)}
    if columns:
        result["models"] = [{"model": method, **_scored(each)} for method, each in columns.items()]
    return result


def _scored(rows: Rows) -> dict[str, Any]:
    return {"images": [finite_only(row) for row in rows], "mean": finite_only(mean_scores(rows))}


def _names(columns: Mapping[str, Rows]) -> list[str]:
    return [row["name"] for row in next(iter(columns.values()))]


def _metrics(rows: Rows) -> list[str]:
    return [name for name in rows[0] if name != "name"]
