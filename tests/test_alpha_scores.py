"""tools/alpha_scores.py and tools/alpha_plot.py: what is scored, the means, and the figure."""

import json
import math

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.metrics import SCORES, scores
from esrgan_jax.images.image_blend import blend
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.imresize import imresize
from esrgan_jax.upscaling.upscaler import SCORED, Upscaler
from tools import alpha_plot, alpha_scores


def test_means_are_over_images_that_every_method_has_a_score_for():
    columns = {
        "a": [{"x": 1.0, "y": math.nan}, {"x": 3.0, "y": 2.0}],
        "b": [{"x": math.nan, "y": 5.0}, {"x": 4.0, "y": math.nan}],
    }
    before = str(columns)
    means = alpha_scores.complete_means(columns)
    assert str(columns) == before
    assert means == {"a": {"x": 3.0, "y": None}, "b": {"x": 4.0, "y": None}}


def test_both_interpolations_are_scored_for_every_alpha(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(alpha_scores, "METRICS", SCORES)
    hr = rng.integers(0, 256, (32, 28, 3), np.uint8)
    (tmp_path / "hr").mkdir()
    write_image(tmp_path / "hr/a.png", hr)
    ends, found = alpha_scores.measure(tmp_path / "hr", "lite-x4-psnr", "lite-x4-gan", [0.5])
    assert ends["picture"] == [found["picture"][0], found["picture"][2]]
    assert (found["dataset"], found["images"], found["scale"]) == ("hr", 1, 4)
    lr = imresize(hr, 1 / 4)
    psnr, gan, middle = (
        Upscaler.load("lite-x4-gan", psnr_model="lite-x4-psnr", alpha=alpha, **SCORED)(lr)
        for alpha in (0, 1, 0.5)
    )
    expected = {
        "network": [psnr, middle, gan],
        "picture": [psnr, blend(psnr, gan, 0.5), gan],
    }
    for kind, images in expected.items():
        for alpha, image, line in zip((0, 0.5, 1), images, found[kind], strict=True):
            assert line == pytest.approx({"alpha": alpha, **scores(image, hr, 4)}, abs=1e-6)
    assert found["bicubic"] == pytest.approx(scores(imresize(lr, 4), hr, 4), abs=1e-6)


def test_the_figure_has_a_row_for_each_dataset(tmp_path):
    line = {"psnr_y": 30.0, "lpips": 0.2, "niqe": 5.0}
    kinds = {kind: [{"alpha": a, **line} for a in (0, 1)] for kind in ("network", "picture")}
    for name in ("set0", "set1"):
        names = {"dataset": name, "psnr_model": "p", "model": "g"}
        (tmp_path / f"{name}.json").write_text(json.dumps({**names, **kinds}))
    figure = tmp_path / "plot.png"
    files = [str(tmp_path / f"set{index}.json") for index in (0, 1)]
    alpha_plot.main([*files, f"--output={figure}"])
    assert read_image(figure).shape[:2] == (720, 900)
    kinds["network"][0]["niqe"] = None  # no image was large enough
    (tmp_path / "set0.json").write_text(json.dumps({**names, **kinds}))
    alpha_plot.main([*files, f"--output={figure}"])
    (tmp_path / "scores.json").write_text(json.dumps({"dataset": "Set5", "models": []}))
    with pytest.raises(InputError, match=r"scores\.json is not a file that tools\.alpha_scores"):
        alpha_plot.main([str(tmp_path / "scores.json"), f"--output={figure}"])
    with pytest.raises(InputError, match=r"plot\.png is not a file that tools\.alpha_scores wrote"):
        alpha_plot.main([str(figure), f"--output={tmp_path / 'other.png'}"])
