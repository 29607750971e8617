"""The scores and facts in docs/models.md are those of the package's networks."""

import csv
import re
from pathlib import Path

import pytest

from esrgan_jax import evaluate
from esrgan_jax.blend import ALPHA
from esrgan_jax.interop import zoo
from tools import degrade_images

ROOT = Path(__file__).parents[1]
CARD = (ROOT / "docs" / "models.md").read_text()
METRICS = {"PSNR-Y ↑": ("psnr_y", 0.01), "SSIM-Y ↑": ("ssim_y", 0.001), "LPIPS ↓": ("lpips", 0.001)}
NAMES = ("lite-x4-psnr", "lite-x4-gan")
REAL = ("lite-x4-real-psnr", "lite-x4-real")
BLEND = f"lite-x4, alpha {ALPHA}, denoise 0"


def documented_scores(title):
    """Returns {network: {heading: score}} of the table with this title."""
    (found,) = re.findall(rf"^(\| {title}[^\n]*)\n\|[- |:]+\n((?:\|[^\n]*\n)+)", CARD, re.M)
    _, *headings = [cell.strip() for cell in found[0].strip("| ").split("|")]
    scores = {}
    for line in found[1].splitlines():
        network, *values = [cell.strip(" *") for cell in line.strip("| ").split("|")]
        scores[network] = dict(zip(headings, map(float, values), strict=True))
    return scores


def measured_scores(folder, *flags):
    """Returns the means of `evaluate` by network."""
    found = folder / "scores.csv"
    evaluate.main(["--metrics=psnr_y,ssim_y,lpips", f"--csv={found}", *flags])
    rows = csv.DictReader(found.read_text().splitlines())
    return {row["method"]: row for row in rows if row["image"] == "mean"}


def models(names):
    return [f"--model={name}" for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "commands"),
    [("Set5", [models(NAMES), ["--denoise=0"]]), ("Set14", [models(NAMES)])],
)
def test_measured_scores_equal_the_documented_ones(
    dataset, commands, shared_data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(shared_data / "metrics"))
    measured = {}
    for flags in commands:
        measured |= measured_scores(tmp_path, f"--hr={shared_data / dataset.lower()}", *flags)
    card = documented_scores(dataset)
    assert set(measured) == {"bicubic", *NAMES, *([BLEND] if len(commands) > 1 else [])}
    for network, means in measured.items():
        for heading, (metric, tolerance) in METRICS.items():
            assert card[network][heading] == pytest.approx(float(means[metric]), abs=tolerance)


@pytest.mark.slow
def test_scores_on_jpegs_equal_the_documented_ones(shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(shared_data / "metrics"))
    hr = shared_data / "set14"
    degrade_images.main([str(hr), str(tmp_path), "--kinds=jpeg50"])
    for flags in (models(REAL), []):
        lr = f"--lr={tmp_path / 'jpeg50'}"
        for network, means in measured_scores(tmp_path, f"--hr={hr}", lr, *flags).items():
            for title, metric, tolerance in (("LPIPS", "lpips", 0.001), ("PSNR-Y", "psnr_y", 0.01)):
                documented = documented_scores(f"{title} of Set14")[network]["JPEG 50"]
                assert documented == pytest.approx(float(means[metric]), abs=tolerance)


def test_the_documented_parameter_count_is_right():
    assert f"{zoo.ZOO['lite-x4-gan'].parameters:,} parameters" in CARD
