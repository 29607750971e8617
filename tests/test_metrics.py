"""Metrics against formulas, the definition of SSIM, and published figures of bicubic."""

import math
import sys
import types

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.luma import rgb_to_y
from esrgan_jax.evaluation.metrics import (
    METRICS,
    crop_border,
    load_metrics,
    mean_scores,
    psnr,
    scores,
    ssim,
)
from esrgan_jax.images.image_file import find_images, read_image
from esrgan_jax.imresize import imresize, mod_crop


@pytest.mark.parametrize(
    ("colour", "luma"),
    [
        ((0, 0, 0), 16.0),
        ((255, 255, 255), 235.0),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((1, 2, 3), 16 + (65.481 + 2 * 128.553 + 3 * 24.966) / 255),
    ],
)
def test_luma_of_known_colours(colour, luma):
    image = np.full((2, 3, 3), colour, np.uint8)
    np.testing.assert_allclose(rgb_to_y(image), np.full((2, 3), luma), rtol=0, atol=1e-12)


def test_luma_takes_floats_between_0_and_1(rng):
    image = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    np.testing.assert_allclose(rgb_to_y(image / 255), rgb_to_y(image), rtol=1e-15)


@pytest.mark.parametrize("difference", [1, 5, 255])
def test_psnr_of_a_constant_difference(difference):
    a = np.zeros((6, 7, 3), np.uint8)
    expected = 20 * math.log10(255 / difference)
    assert psnr(a, a + np.uint8(difference)) == pytest.approx(expected, abs=1e-12)
    assert psnr(a + np.uint8(difference), a) == pytest.approx(expected, abs=1e-12)


def test_psnr_of_equal_images_is_infinite(rng):
    a = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    assert psnr(a, a.copy()) == math.inf


def test_brightness_is_the_difference_of_means_and_best_near_0(rng):
    hr = rng.integers(10, 200, (4, 5, 3), dtype=np.uint8)
    brightness = load_metrics(["brightness"])["brightness"]
    assert brightness(hr + np.uint8(3), hr) == pytest.approx(3, abs=1e-12)
    assert brightness(hr - np.uint8(2), hr) == pytest.approx(-2, abs=1e-12)
    metric = METRICS["brightness"]
    assert (metric.best([3.0, -2.0]), metric.arrowed) == (-2.0, "Brightness → 0")


def test_ssim_of_flat_images_is_the_luminance_term():
    a, b = np.full((16, 16), 100.0), np.full((16, 16), 110.0)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    assert ssim(a, b) == pytest.approx(expected, abs=1e-12)


def test_ssim_equals_its_definition(rng):
    """Sums every window explicitly, with the constants and biased variances of the paper."""
    a, b = rng.uniform(0, 255, (2, 14, 13))
    x = np.arange(-5, 6)
    window = np.exp(-(x[:, None] ** 2 + x[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(14 - 10):
        for left in range(13 - 10):
            p, q = (v[top : top + 11, left : left + 11] for v in (a, b))
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            var_p, var_q = (window * p * p).sum() - mean_p**2, (window * q * q).sum() - mean_q**2
            cov = (window * p * q).sum() - mean_p * mean_q
            values.append(
                (2 * mean_p * mean_q + c1)
                * (2 * cov + c2)
                / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2))
            )
    assert ssim(a, b) == pytest.approx(np.mean(values), abs=1e-12)


def test_ssim_of_colours_is_the_mean_over_channels(rng):
    a, b = rng.uniform(0, 255, (2, 12, 15, 3))
    each = [ssim(a[..., c], b[..., c]) for c in range(3)]
    assert ssim(a, b) == pytest.approx(np.mean(each), abs=1e-12)


def test_scores_ignore_the_border(rng):
    hr = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    sr = hr.copy()
    sr[:4], sr[-4:], sr[:, :4], sr[:, -4:] = 0, 0, 0, 0
    assert scores(sr, hr, border=4) == {"psnr_y": math.inf, "ssim_y": 1.0, "psnr_rgb": math.inf}
    assert scores(sr, hr, border=3)["psnr_rgb"] < 40
    assert crop_border(hr, 4).shape == (12, 16, 3)
    assert crop_border(hr, 0).shape == hr.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: psnr(np.zeros((3, 4)), np.zeros((4, 3))), r"\(3, 4\) and \(4, 3\)"),
        (lambda: ssim(np.zeros((10, 40)), np.zeros((10, 40))), "11x11 px.*40x10"),
        (lambda: crop_border(np.zeros((8, 20, 3)), 4), "20x8 px.*border of 4"),
    ],
)
def test_wrong_sizes_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(("name", "published"), [("set5", 28.43), ("set14", 26.09)])
def test_bicubic_has_the_published_psnr(shared_data, name, published):
    values = []
    for path in find_images(shared_data / name):
        hr = mod_crop(read_image(path), 4)
        values.append(scores(imresize(imresize(hr, 1 / 4), 4), hr, border=4)["psnr_y"])
    assert np.mean(values) == pytest.approx(published, abs=0.005)


def test_means_ignore_images_without_a_value():
    rows = [
        {"name": "a", "psnr_y": 30.0, "lpips": math.nan, "niqe": math.nan},
        {"name": "b", "psnr_y": 33.0, "lpips": 0.25, "niqe": math.nan},
        {"name": "c", "psnr_y": math.inf, "lpips": 0.75, "niqe": math.nan},
    ]
    assert mean_scores(rows[:2]) == pytest.approx(
        {"psnr_y": 31.5, "lpips": 0.25, "niqe": math.nan}, nan_ok=True
    )
    assert mean_scores(rows) == pytest.approx(
        {"psnr_y": math.inf, "lpips": 0.5, "niqe": math.nan}, nan_ok=True
    )


@pytest.fixture
def stand_ins(monkeypatch):
    """Replaces LPIPS and NIQE by constants; returns a list of the shapes passed to them."""
    shapes = []

    def lpips(sr, hr):
        shapes.append((sr.shape, hr.shape))
        return 0.5

    def niqe(sr):
        shapes.append((sr.shape,))
        if min(sr.shape[:2]) < 96:
            raise InputError("too small")
        return 4.0

    for name, function in (("lpips", lpips), ("niqe", niqe)):
        module = types.ModuleType(name)
        setattr(module, f"load_{name}", lambda function=function: function)
        monkeypatch.setitem(sys.modules, f"esrgan_jax.evaluation.{name}", module)
    return shapes


def test_metrics_get_images_without_border_in_the_given_order(stand_ins, rng):
    hr = rng.integers(0, 256, (104, 130, 3), dtype=np.uint8)
    sr = hr ^ 1
    sr[:4] = 0
    row = scores(sr, hr, 4, load_metrics(["niqe", "psnr_rgb", "lpips"]))
    expected = {"niqe": 4.0, "psnr_rgb": 20 * math.log10(255), "lpips": 0.5}
    assert list(row.items()) == [(name, pytest.approx(value)) for name, value in expected.items()]
    assert stand_ins == [((96, 122, 3),), ((96, 122, 3), (96, 122, 3))]


def test_an_image_too_small_for_a_metric_has_no_value(stand_ins, rng):
    hr = rng.integers(0, 256, (103, 200, 3), dtype=np.uint8)
    row = scores(hr, hr, 4, load_metrics(["niqe", "lpips", "ssim_y"]))
    assert math.isnan(row["niqe"])
    assert (row["lpips"], row["ssim_y"]) == (0.5, 1.0)
    row = scores(hr[:18], hr[:18], 4, load_metrics(["ssim_y", "psnr_y"]))
    assert math.isnan(row["ssim_y"])
    assert row["psnr_y"] == math.inf


def test_an_unknown_metric_is_refused_with_a_list_of_metrics():
    with pytest.raises(InputError, match=r"'psnr'.*choose from psnr_y, ssim_y, psnr_rgb, lpips"):
        load_metrics(["psnr_y", "psnr"])


def test_lpips_and_niqe_with_published_parameters(shared_data, monkeypatch):
    monkeypatch.setenv("ESRGAN_JAX_CACHE", str(shared_data / "metrics"))
    metrics = load_metrics(["lpips", "niqe"])
    baboon = read_image(shared_data / "set14" / "baboon.png")
    assert scores(baboon, baboon, 0, metrics) == {
        "lpips": 0,
        "niqe": pytest.approx(5.7296, abs=1e-3),
    }
    small = baboon[:100, :100]
    row = scores(small, 255 - small, 4, metrics)
    assert row["lpips"] > 0.1
    assert math.isnan(row["niqe"])
    assert math.isnan(
        scores(small[:38], small[:38], 4, metrics)["lpips"]
    )  # 30 px inside the border
    assert not math.isnan(scores(small[:39], small[:39], 4, metrics)["lpips"])
