"""Tests that validation gives the scores of `evaluate` on every device."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from esrgan_jax import evaluate
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.degradation.recipe import Recipe
from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.metrics import SCORES
from esrgan_jax.images.image_file import write_image
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.training import validation
from esrgan_jax.training.validation import Validation
from esrgan_jax.upscaling import memory, upscaler
from esrgan_jax.upscaling.upscaler import SCORED, Upscaler
from tests.degradations import blurred

MODULE = RRDBNet(num_features=4, num_growth=2, num_blocks=1, initializer="torch")


@pytest.fixture(scope="module")
def variables() -> dict:
    return jax.tree.map(np.asarray, jax.jit(MODULE.init)(jax.random.key(0), np.zeros((1, 8, 8, 3))))


@pytest.fixture(scope="module")
def hr(tmp_path_factory) -> Path:
    """A folder with two images, one larger than the smallest tile that memory may require."""
    folder = tmp_path_factory.mktemp("hr")
    rng = np.random.default_rng(0)
    for name, size in (("large", (96, 400, 3)), ("small", (48, 44, 3))):
        write_image(folder / f"{name}.png", rng.integers(0, 256, size, dtype=np.uint8))
    return folder


def evaluated(variables: dict, hr: Path, folder: Path) -> dict[str, float]:
    model, scores = folder / "net.safetensors", folder / "scores.json"
    save_generator(model, MODULE, variables)
    evaluate.main([f"--model={model}", f"--hr={hr}", f"--json={scores}"])
    return {f"val_{name}": value for name, value in json.loads(scores.read_text())["mean"].items()}


def test_scores_equal_those_of_evaluate(variables, hr, tmp_path, monkeypatch) -> None:
    """Also on a device that prefers bfloat16 and has little memory."""
    expected = evaluated(variables, hr, tmp_path)
    assert expected.keys() == {f"val_{name}" for name in SCORES}
    scores, samples = Validation.load(str(hr), None, 4).run(MODULE, variables)
    assert scores == pytest.approx(expected, abs=1e-12)
    assert [*samples] == ["large.png", "small.png"]
    pairs = [pair._replace(name="a.jpg") for pair in Validation.load(str(hr), None, 4).pairs]
    _, samples = Validation(pairs, 4, {}).run(MODULE, variables)
    assert [*samples] == ["a.png", "_a.png"]

    monkeypatch.setattr(upscaler, "best_dtype", lambda device: "bfloat16")
    monkeypatch.setattr(memory, "budget", lambda device: 1)
    assert Upscaler(MODULE, variables).tile == 64  # the patches have an effect
    coarse = MODULE.clone(dtype=np.dtype("bfloat16"))  # as in training with bfloat16
    scores, _ = Validation.load(str(hr), None, 4).run(coarse, variables)
    assert scores == pytest.approx(expected, abs=1e-12)
    assert evaluated(variables, hr, tmp_path) == expected


def test_metrics_can_be_chosen_and_need_an_image_that_has_them(variables, hr, monkeypatch) -> None:
    def niqe(sr, hr):
        raise InputError("too small")

    known = {"lpips": lambda sr, hr: float(hr.shape[1]), "niqe": niqe}
    monkeypatch.setattr(validation, "load_metrics", lambda names: {n: known[n] for n in names})
    chosen = Validation.load(str(hr), None, 4, metrics=("lpips",))
    scores, _ = chosen.run(MODULE, variables)
    assert scores == {"val_lpips": (400 - 8 + 44 - 8) / 2}
    scores, _ = chosen._replace(metrics=known).run(MODULE, variables)
    assert [*scores] == ["val_lpips"]
    with pytest.raises(InputError, match="metric niqe, which needs two blocks"):
        Validation.load(str(hr), None, 4, metrics=("lpips", "niqe"))


def test_scores_use_float32_with_the_highest_precision(variables, monkeypatch) -> None:
    seen = []

    def step(module, variables, tiles, sizes, *, dtype, **progress):
        seen.append((module.dtype, jax.config.jax_default_matmul_precision, len(tiles)))
        return np.zeros((len(tiles), 4 * tiles.shape[1], 4 * tiles.shape[2], 3), dtype), [True] * 9

    for options in (SCORED, {**SCORED, "dtype": "bfloat16"}):
        upscale = Upscaler(MODULE, variables, devices=jax.devices()[:1], **options)
        monkeypatch.setattr(upscale.runner, "step", step)
        upscale(np.zeros((8, 8, 3), np.uint8))
    assert seen == [(np.float32, "highest", 1), (jax.numpy.bfloat16, None, 1)]


def test_there_are_no_pairs_without_a_folder() -> None:
    assert Validation.load(None, None, 4).pairs == []


def test_validation_can_be_stopped_between_images(variables, hr) -> None:
    stop = iter([False, True])
    assert Validation.load(str(hr), None, 4).run(MODULE, variables, lambda: next(stop)) is None
    assert not list(stop)


@pytest.mark.parametrize(("total", "count"), [(9, 1), (0, 2), (5, 2), (5, 3), (9, 2), (100, 8)])
def test_processes_share_the_images_and_the_first_has_those_that_are_shown(total, count) -> None:
    shares = [range(total)[validation._share(total, n, count)] for n in range(count)]
    assert [number for share in shares for number in share] == [*range(total)]
    assert len(shares[0]) >= min(validation.SAMPLE_COUNT, total)
    assert max(map(len, shares)) <= max(validation.SAMPLE_COUNT, -(-total // count))


def test_a_random_degradation_gives_the_same_squares_in_every_run(variables, hr) -> None:
    recipes = [Recipe(blurred, 8, seed) for seed in (0, 1)]  # the run's seed does not matter
    first, second = (Validation.load(str(hr), None, 4, recipe).pairs for recipe in recipes)
    shapes = [((16, 16, 3), (64, 64, 3)), ((11, 11, 3), (44, 44, 3))]
    assert [(pair.lr.shape, pair.hr.shape) for pair in first] == shapes
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.lr, other.lr)
        np.testing.assert_array_equal(one.hr, other.hr)


def test_a_small_image_does_not_make_the_squares_of_others_smaller(tmp_path, rng) -> None:
    for name, size in {"a": (150, 200), "b": (40, 90), "c": (600, 520)}.items():
        write_image(tmp_path / f"{name}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
    pairs = Validation.load(str(tmp_path), None, 4, Recipe(blurred, 8, 0)).pairs
    assert [pair.hr.shape[:2] for pair in pairs] == [(128, 128), (40, 40), (512, 512)]
    assert [pair.lr.shape[:2] for pair in pairs] == [(32, 32), (10, 10), (128, 128)]
