"""tools/demo.py with its slow parts replaced: what it shows, where and in which order."""

import io

import numpy as np
import pytest
from PIL import Image

from configs import demo as demo_config
from configs import lite_x4
from esrgan_jax.blend import ALPHA
from esrgan_jax.evaluation.samples import bicubic
from esrgan_jax.images.image_file import find_images, read_image
from esrgan_jax.imresize import imresize, mod_crop
from esrgan_jax.training import loop
from esrgan_jax.upscaling.upscaler import Upscaler
from tools import demo


def test_results_are_shown_before_training_starts(tmp_path, monkeypatch, capsys):
    loaded, cores = [], []

    def load(*models, **options):
        loaded.append((*(model.name for model in models), *options.values()))
        return bicubic(4)

    def train_and_evaluate(config, workdir):
        assert read_image(tmp_path / "comparison.png").shape[1] > 6 * 2 * 132
        output = capsys.readouterr().out
        assert "comparison.png: look at it" in output
        assert "-m esrgan_jax.upscale photo.jpg --output=large.png" in output
        assert cores == [config]
        hr, lr = (find_images(config.data[name]) for name in ("train", "train_lr"))
        assert len(hr) == len(lr) == 15
        assert config.data.val == str(tmp_path / "photographs" / "val")
        raise InterruptedError

    monkeypatch.setattr(Upscaler, "load", load)
    monkeypatch.setattr(loop, "use_cores", cores.append)
    monkeypatch.setattr(loop, "train_and_evaluate", train_and_evaluate)
    with pytest.raises(InterruptedError):
        demo.main([f"--workdir={tmp_path}"])
    assert loaded == [(0.0, 0), (ALPHA, 0), (1.0, 0)]

    monkeypatch.setattr(loop, "train_and_evaluate", lambda config, workdir: None)
    demo.main([f"--workdir={tmp_path}"])
    assert loaded[6:] == [("psnr",)]
    output = capsys.readouterr().out
    assert "trained.png: look at it" in output
    assert f"--model={tmp_path / 'psnr'}" in output
    # LR, bicubic, before, after and HR, of the degraded image.
    assert read_image(tmp_path / "trained.png").shape[1] > 5 * 2 * 132


def test_pairs_are_degraded_images_at_the_size_of_lr(tmp_path):
    folders = demo.write_pairs(tmp_path, 4)
    (hr,), (lr,) = (find_images(folders[name]) for name in ("val", "val_lr"))
    clean = imresize(mod_crop(read_image(hr), 4), 1 / 4)
    degraded = read_image(lr)
    assert degraded.shape == clean.shape
    error = degraded.astype(float) - clean
    assert 5 < error.std() < 15
    assert abs(error.mean()) < 1
    firsts = [next(iter(find_images(f"{folders['train_lr']}/{copy}"))) for copy in range(3)]
    assert len({first.read_bytes() for first in firsts}) == 3  # each copy is degraded differently
    again = demo.write_pairs(tmp_path / "again", 4)
    assert find_images(again["val_lr"])[0].read_bytes() == lr.read_bytes()


def test_degrade_without_noise_applies_only_jpeg(rng):
    image = np.full((16, 16, 3), 128, np.uint8)
    file = io.BytesIO(demo.degrade(image, 0.0, 90, rng))
    np.testing.assert_array_equal(np.asarray(Image.open(file)), image)


def test_the_config_matches_the_network_it_starts_from():
    config = demo_config.get_config()
    assert (config.stage, config.psnr.init_from) == ("psnr", "lite-x4-psnr")
    assert config.generator == lite_x4.get_config().generator
