"""The scores and facts in docs/models.md are those of the package's networks."""

import csv
import re
from pathlib import Path

import pytest

from esrgan_jax import evaluate
from esrgan_jax.blend import ALPHA
from esrgan_jax.interop import zoo

ROOT = Path(__file__).parents[1]
CARD = (ROOT / "docs" / "models.md").read_text()
METRICS = {"PSNR-Y ↑": ("psnr_y", 0.01), "SSIM-Y ↑": ("ssim_y", 0.001), "LPIPS ↓": ("lpips", 0.001)}
NAMES = ("lite-x4-psnr", "lite-x4-gan")
BLEND = f"lite-x4, alpha {ALPHA}"


def documented_scores(dataset):
    """Returns {network: {heading: score}} of the table of a dataset."""
    (found,) = re.findall(rf"^(\| {dataset}[^\n]*)\n\|[- |:]+\n((?:\|[^\n]*\n)+)", CARD, re.M)
    _, *headings = [cell.strip() for cell in found[0].strip("| ").split("|")]
    scores = {}
    for line in found[1].splitlines():
        network, *values = [cell.strip(" *") for cell in line.strip("| ").split("|")]
        scores[network] = dict(zip(headings, map(float, values), strict=True))
    return scores


@pytest.mark.parametrize(
    ("dataset", "commands"),
    [
        pytest.param("Set5", [NAMES, ()], id="Set5", marks=pytest.mark.slow),
        pytest.param("Set14", [NAMES], id="Set14", marks=pytest.mark.slow),
    ],
)
def test_measured_scores_equal_the_documented_ones(
    dataset, commands, shared_data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(shared_data / "metrics"))
    measured = {}
    for number, models in enumerate(commands):
        found = tmp_path / f"{number}.csv"
        evaluate.main(
            [
                f"--hr={shared_data / dataset.lower()}",
                "--metrics=psnr_y,ssim_y,lpips",
                f"--csv={found}",
                *(f"--model={model}" for model in models),
            ]
        )
        for row in csv.DictReader(found.read_text().splitlines()):
            if row["image"] == "mean":
                measured[row["method"]] = row
    card = documented_scores(dataset)
    assert set(measured) == {"bicubic", *NAMES, *([BLEND] if () in commands else [])}
    for network, means in measured.items():
        for heading, (metric, tolerance) in METRICS.items():
            assert card[network][heading] == pytest.approx(float(means[metric]), abs=tolerance)


def test_the_documented_parameter_count_is_right():
    assert f"{zoo.ZOO['lite-x4-gan'].parameters:,} parameters" in CARD


def test_links_of_the_page_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", CARD)
    assert len(links) > 5
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
