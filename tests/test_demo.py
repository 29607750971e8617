"""tools/demo.py, with stand-ins for what takes minutes: what it shows, where and when."""

import pytest

from esrgan_jax import train
from esrgan_jax.evaluate import bicubic
from esrgan_jax.mixture import ALPHA
from esrgan_jax.picture import read_picture
from esrgan_jax.upscaler import Upscaler
from tools import demo


def test_results_are_shown_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    loaded, cores = [], []

    def load(*models, **options):
        loaded.append((*(model.name for model in models), *options.values()))
        return bicubic(4)

    def train_and_evaluate(config, workdir):
        assert read_picture(tmp_path / "comparison.png").shape[1] > 6 * 2 * 132
        said = capsys.readouterr().out
        assert "comparison.png: look at it" in said
        assert "-m esrgan_jax.upscale photo.jpg --output=large.png" in said
        assert len(list((tmp_path / "photographs" / "train").iterdir())) == 5
        assert cores == [config]
        assert config.data.val == str(tmp_path / "photographs" / "val")
        raise InterruptedError

    monkeypatch.setattr(Upscaler, "load", load)
    monkeypatch.setattr(train, "use_cores", cores.append)
    monkeypatch.setattr(train, "train_and_evaluate", train_and_evaluate)
    with pytest.raises(InterruptedError):
        demo.main([f"--workdir={tmp_path}"])
    assert loaded == [(0.0,), (ALPHA,), (1.0,)]

    monkeypatch.setattr(train, "train_and_evaluate", lambda config, workdir: None)
    demo.main([f"--workdir={tmp_path}"])
    assert loaded[6:] == [("psnr",), ("gan", tmp_path / "psnr", 0.5), ("gan",)]
    assert "trained.png: look at it" in capsys.readouterr().out
    assert (tmp_path / "trained.png").is_file()
