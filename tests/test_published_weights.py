"""Tests that published weights reproduce published results."""

import json
import shutil

import jax
import numpy as np
import pytest

from esrgan_jax import evaluate
from esrgan_jax.checkpoint import load_generator
from esrgan_jax.images.image_file import read_image
from esrgan_jax.interop.rrdb_names import to_torch
from esrgan_jax.interop.weight_file import read_tensors
from esrgan_jax.interpolation import interpolate_params
from esrgan_jax.upscaling.upscaler import Upscaler

FIELDS = {
    **{"num_features": 64, "num_growth": 32, "num_blocks": 23, "in_channels": 3},
    **{"out_channels": 3, "scale": 4, "unshuffle": 1, "plus": False},
    "upsampler": "upconv",
}


@pytest.mark.slow
def test_baboon_matches_the_published_result(shared_data):
    upscaler = Upscaler.load(shared_data / "weights" / "RRDB_ESRGAN_x4.npz")
    sr = upscaler(read_image(shared_data / "official" / "LR_baboon.png"))
    published = read_image(shared_data / "official" / "baboon_ESRGAN.png")
    difference = np.abs(sr.astype(int) - published.astype(int))
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


def mean_psnr(model, hr, report):
    evaluate.main([f"--model={model}", f"--hr={hr}", f"--json={report}"])
    return json.loads(report.read_text())["mean"]["psnr_y"]


@pytest.mark.slow  # the one below is quicker
@pytest.mark.parametrize(
    ("weights", "published"), [("RRDB_PSNR_x4.npz", 32.73), ("RRDB_ESRGAN_x4.npz", 30.47)]
)
def test_psnr_on_set5_matches_the_published_value(shared_data, tmp_path, weights, published):
    model, hr = shared_data / "weights" / weights, shared_data / "set5"
    assert mean_psnr(model, hr, tmp_path / "a.json") == pytest.approx(published, abs=0.01)


def test_psnr_of_the_butterfly_is_its_part_of_the_published_value(shared_data, tmp_path):
    """Of the five images whose mean is 32.73 dB in the test above, the smallest has 29.50 dB."""
    (tmp_path / "hr").mkdir()
    shutil.copy(shared_data / "set5" / "butterfly.png", tmp_path / "hr")
    model = shared_data / "weights" / "RRDB_PSNR_x4.npz"
    assert mean_psnr(model, tmp_path / "hr", tmp_path / "a.json") == pytest.approx(29.50, abs=0.01)


def test_interpolation_of_the_published_weights(shared_data):
    files = [shared_data / "weights" / f"RRDB_{kind}_x4.npz" for kind in ("PSNR", "ESRGAN")]
    psnr, gan = (load_generator(file)[1]["params"] for file in files)
    tensors = [read_tensors(file) for file in files]
    mixed = to_torch(FIELDS, interpolate_params(psnr, gan, 0.8), "bsrgan")
    assert mixed.keys() == tensors[0].keys()
    for name, tensor in mixed.items():
        parts = [0.2 * tensors[0][name].astype(np.float64), 0.8 * tensors[1][name]]
        # Each product and the sum are rounded; the two networks nearly cancel in places.
        bound = 2 * np.finfo(np.float32).eps * (abs(parts[0]) + abs(parts[1]))
        assert np.all(abs(tensor - (parts[0] + parts[1])) <= bound), name
    for alpha, end in ((0.0, psnr), (1.0, gan)):
        jax.tree.map(np.testing.assert_array_equal, interpolate_params(psnr, gan, alpha), end)


@pytest.mark.parametrize(
    ("weights", "transposed"),
    [
        pytest.param("RRDB_PSNR_x4.npz", False, marks=pytest.mark.slow),
        ("RealESRGAN_x4plus_anime_6B.pth", True),
        pytest.param("RealESRGAN_x4plus_anime_6B.pth", False, marks=pytest.mark.slow),
        pytest.param("RRDB_PSNR_x4.npz", True, marks=pytest.mark.slow),
        pytest.param("RRDB_ESRGAN_x4.npz", True, marks=pytest.mark.slow),
        pytest.param("RRDB_ESRGAN_x4.npz", False, marks=pytest.mark.slow),
    ],
)
def test_tiles_with_the_default_overlap_differ_by_less_than_one_level(
    shared_data, weights, transposed
):
    """Compares two tiles, side by side or one above the other, with the untiled photograph."""
    image = read_image(shared_data / "set14" / "barbara.png")[250:282, 300:460]
    image = image.swapaxes(0, 1) if transposed else image
    lr = image.astype(np.float32) / 255
    device = jax.devices()[:1]
    upscaler = Upscaler.load(shared_data / "weights" / weights, tile=160, devices=device)
    tiled = Upscaler(
        upscaler.module, upscaler.runner.variables, tile=136, overlap=112, devices=device
    )
    axis = tiled.runner.plan(*lr.shape[:2], tiled.tile, tiled.overlap)[transposed ^ 1]
    assert axis.length == 136
    assert len(axis.spans) == 2
    difference = 255 * np.abs(tiled(lr) - upscaler(lr))
    assert 0 < difference.max() < 1


def test_the_default_overlap_is_as_documented(shared_data):
    for weights in ("RRDB_ESRGAN_x4.npz", "RealESRGAN_x4plus_anime_6B.pth"):
        assert Upscaler.load(shared_data / "weights" / weights, tile=512).overlap == 112
