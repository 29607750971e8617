"""Mixtures of folders, as a config names them."""

import numpy as np
import pytest

from configs import x4
from esrgan_jax.data.mixture import Mixture
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import write_image
from esrgan_jax.training import inputs


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Returns a config; the folders a, b and lr have images of one level, 10, 11, 20, …"""
    monkeypatch.chdir(tmp_path)
    for name, levels, side in (("a", (10, 11, 12), 64), ("b", (20, 21), 64), ("lr", (20, 21), 16)):
        (tmp_path / name).mkdir()
        for level in levels:
            image = np.full((side, side, 3), level, np.uint8)
            write_image(tmp_path / name / f"{level}.png", image)
    config = x4.get_config()
    config.stage, config.data.num_workers = "gan", 0
    config.gan.hr_patch, config.gan.batch_size, config.degradation.margin = 32, 4, 16
    return config


def levels(source) -> list[int]:
    return [int(np.asarray(source[index]["hr"])[0, 0, 0]) for index in range(len(source))]


def test_folders_with_weights_are_one_source(config):
    config.data.train = "a:3,b:1"
    source = inputs.open_images(config)
    assert isinstance(source, Mixture)
    assert levels(source) == [10, 11, 12, 20, 21]
    assert source[-1]["hr"][0, 0, 0] == 21
    assert source.parts == [(3, 3.0), (2, 1.0)]
    assert source.decoded_bytes == 5 * 64 * 64 * 3
    assert [*source.files()] == ["0/10.png", "0/11.png", "0/12.png", "1/20.png", "1/21.png"]
    with pytest.raises(IndexError):
        source[5]


def test_a_run_takes_patches_in_the_ratio_of_the_weights(config):
    """With the sides that a random degradation needs, which only just fit."""
    config.data.train, config.degradation.name = "a:3,b:1", "realesrgan"
    mesh = inputs.sharding.create_mesh()
    config.gan.batch_size = mesh.size
    source = inputs.open_images(config)
    batch = next(iter(inputs.make_batches(config, "gan", source, None, mesh)))["hr"]
    assert batch.shape == (8, 64, 64, 3)
    assert sorted(batch[:, 0, 0, 0].tolist())[-2:] == [20, 21]
    assert np.sum(batch[:, 0, 0, 0] < 20) == 6
    config.degradation.margin = 20
    with pytest.raises(InputError, match="none of 3 images can be used"):
        inputs.open_images(config)


def test_pairs_of_a_mixture_need_a_folder_for_each(config):
    config.data.train, config.data.train_lr = "a:2,b:1", "lr"
    with pytest.raises(InputError, match=r"^data\.train_lr has 1 folders for 2 of data\.train"):
        inputs.open_images(config)
    config.data.train = "b:2"
    source = inputs.open_images(config)
    assert source[1]["lr"].shape == (16, 16, 3)
