"""Tests of score tables as text, Markdown, CSV and JSON, each parsed and compared."""

import csv
import io
import json
import math

import pytest

from esrgan_jax.evaluation.score_table import WIDEST, csv_text, markdown, report, score_table

ROWS = [
    {"name": "a.png", "psnr_y": 30.0, "ssim_y": 0.9, "psnr_rgb": 28.0},
    {"name": "long/name.png", "psnr_y": 33.0, "ssim_y": 0.8, "psnr_rgb": 31.0},
]
# The means: psnr_y 25, 26, 24; lpips 0.4, 0.1, 0.2; niqe that of the one large image.
COLUMNS = {
    "bicubic": [
        {"name": "a|b.png", "psnr_y": 20.0, "lpips": 0.5, "niqe": 7.25},
        {"name": "c.png", "psnr_y": 30.0, "lpips": 0.3, "niqe": math.nan},
    ],
    "psnr": [
        {"name": "a|b.png", "psnr_y": 21.0, "lpips": 0.1, "niqe": 3.25},
        {"name": "c.png", "psnr_y": 31.0, "lpips": 0.1, "niqe": math.nan},
    ],
    "gan": [
        {"name": "a|b.png", "psnr_y": 17.0, "lpips": 0.4, "niqe": 3.125},
        {"name": "c.png", "psnr_y": 31.001, "lpips": 0.0, "niqe": math.nan},
    ],
}


def test_the_table_has_a_row_for_each_image_and_the_mean():
    worse = [{**row, "psnr_y": row["psnr_y"] - 5} for row in ROWS]
    lines = score_table({"bicubic": worse, "model": ROWS}).splitlines()
    assert lines[0].split() == ["bicubic", "model"]
    head = ["PSNR-Y", "SSIM-Y", "PSNR-RGB"]
    assert lines[1].split() == ["image", *head, *head]
    assert lines[2].split() == ["a.png", "25.00", "0.9000", "28.00", "30.00", "0.9000", "28.00"]
    assert lines[-1].split() == ["mean", "26.50", "0.8500", "29.50", "31.50", "0.8500", "29.50"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_control_characters_in_names_are_escaped():
    lines = score_table({"model": [{"name": "a\x1b[2J\n.png", "psnr_y": 30.0}]}).splitlines()
    assert lines[2].split() == [r"a\x1b[2J\n.png", "30.00"]


def test_numbers_align_with_their_headings_and_methods_are_above():
    lines = score_table(
        {"a method of a long name": COLUMNS["gan"], "b": COLUMNS["psnr"]}
    ).splitlines()
    ends = [i + len("PSNR-Y") for i in range(len(lines[1])) if lines[1].startswith("PSNR-Y", i)]
    assert [lines[2][:end].split()[-1] for end in ends] == ["17.00", "21.00"]
    first, second = lines[0].index("a method"), lines[0].index("b", 30)
    assert first < ends[0] < second
    assert lines[3].split() == ["c.png", "31.00", "0.0000", "-", "31.00", "0.1000", "-"]


def test_a_table_too_wide_for_a_terminal_has_only_the_means():
    many = {f"method {index}": ROWS for index in range(4)}
    assert max(map(len, score_table(many).splitlines())) > WIDEST - 30  # nearly the limit
    assert len(score_table(many).splitlines()) == 6
    many["best"] = [{**row, "psnr_y": 50.0} for row in ROWS]
    lines = score_table(many).splitlines()
    assert lines[0].split() == ["mean", "of", "2", "PSNR-Y", "SSIM-Y", "PSNR-RGB"]
    assert lines[1].split() == ["method", "0", "31.50", "0.8500", "29.50"]
    assert lines[-1].split() == ["best", "50.00", "0.8500", "29.50"]
    assert len(lines) == 6
    assert len({len(line) for line in lines}) == 1


def cells(line):
    """Returns the cells of a line of a GitHub table, in which \\| is not a border."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    hidden = line[2:-2].replace(r"\|", "\0")
    return [cell.strip().replace("\0", "|") for cell in hidden.split("|")]


def test_markdown_marks_the_best_value_of_each_metric():
    means, *images = markdown("Set, x4", COLUMNS).split("\n\n")
    head, rule, *rows = map(cells, means.splitlines())
    assert head == ["Set, x4", "PSNR-Y ↑", "LPIPS ↓", "NIQE ↓"]
    assert rule == ["---", "--:", "--:", "--:"]
    assert rows == [
        ["bicubic", "25.00", "0.4000", "7.25"],
        ["psnr", "**26.00**", "**0.1000**", "3.25"],
        ["gan", "24.00", "0.2000", "**3.12**"],
    ]
    tables = [list(map(cells, each.splitlines())) for each in images]
    assert [each[0] for each in tables] == [
        [heading, "bicubic", "psnr", "gan"] for heading in ("PSNR-Y ↑", "LPIPS ↓", "NIQE ↓")
    ]
    assert tables[0][2:] == [
        ["a|b.png", "20.00", "**21.00**", "17.00"],
        ["c.png", "30.00", "**31.00**", "**31.00**"],  # equal as printed, so both are marked
    ]
    assert tables[2][2:] == [["a|b.png", "7.25", "3.25", "**3.12**"], ["c.png", "-", "-", "-"]]


def test_csv_has_the_same_values_as_json():
    read = list(csv.DictReader(io.StringIO(csv_text(COLUMNS))))
    assert list(read[0]) == ["image", "method", "psnr_y", "lpips", "niqe"]
    assert len(read) == 3 * 3
    written = json.loads(json.dumps(report("set", 4, COLUMNS["psnr"], COLUMNS), allow_nan=False))
    assert [each["model"] for each in written["models"]] == list(COLUMNS)
    for each in written["models"]:
        expected = [*each["images"], {"name": "mean", **each["mean"]}]
        of_method = [row for row in read if row["method"] == each["model"]]
        assert [row["image"] for row in of_method] == ["a|b.png", "c.png", "mean"]
        for row, values in zip(of_method, expected, strict=True):
            for metric in ("psnr_y", "lpips", "niqe"):
                number = float(row[metric]) if row[metric] else None
                assert number == values[metric]
    assert written["models"][1]["mean"] == pytest.approx({"psnr_y": 26, "lpips": 0.1, "niqe": 3.25})
    assert written["images"] == written["models"][1]["images"]
    assert written["mean"] == written["models"][1]["mean"]


def test_csv_has_inf_for_infinite_and_an_empty_cell_for_nan():
    exact = [{"name": "c.png", "psnr_y": math.inf, "niqe": math.nan}]
    assert csv_text({"m": exact}).splitlines()[1:] == ["c.png,m,inf,", "mean,m,inf,"]


def test_the_json_report_is_valid_if_values_are_infinite_or_nan():
    exact = {"name": "c.png", "psnr_y": math.inf, "ssim_y": 1.0, "psnr_rgb": math.inf}
    undefined = report("set", 4, [{**ROWS[0], "psnr_y": math.nan}])
    assert undefined["images"][0]["psnr_y"] is undefined["mean"]["psnr_y"] is None
    written = json.dumps(report("set", 4, [*ROWS, exact]), allow_nan=False)
    assert json.loads(written) == {
        "dataset": "set",
        "scale": 4,
        "images": [*ROWS, {"name": "c.png", "psnr_y": None, "ssim_y": 1.0, "psnr_rgb": None}],
        "mean": {"psnr_y": None, "ssim_y": pytest.approx(0.9), "psnr_rgb": None},
    }
