"""Tests of the packaged weights: used by default, without internet access or a cache.

They do not depend on the quality of the networks.
"""

import configparser
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from configs import lite_x4
from esrgan_jax.app.networks import Networks, make_upscaler
from esrgan_jax.blend import ALPHA, DENOISE, GAN, PSNR, REAL, REAL_PSNR
from esrgan_jax.checkpoint import load_generator
from esrgan_jax.errors import RunError
from esrgan_jax.evaluation.contestants import load_contestants
from esrgan_jax.files import sha256
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import read_tensors
from esrgan_jax.interpolation import interpolate_params
from esrgan_jax.models import create_generator
from esrgan_jax.sharding import create_mesh
from esrgan_jax.training.initial import initial_generator
from esrgan_jax.training.stages import psnr_stage
from esrgan_jax.upscaling.upscaler import Upscaler
from tools import convert_rrdb

ROOT = Path(__file__).parents[1]
NAMES = (PSNR, GAN, REAL_PSNR, REAL)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Blocks sockets, and the cache, whose folder is a file."""

    def refuse(*args, **kwargs):
        raise AssertionError("a socket is opened")

    (tmp_path / "file").touch()
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr("socket.socket", refuse)
    monkeypatch.chdir(tmp_path)


def described(name):
    """Returns the description of a network in an image's metadata."""
    path = zoo.fetch(name)
    return f"{path.name} sha256:{sha256(path)[:16]}"


@pytest.mark.parametrize("name", NAMES)
def test_names_resolve_to_files_of_the_package(name, capsys):
    path = zoo.resolve(name)
    assert path == ROOT / "esrgan_jax" / "weights" / f"{name.replace('-', '_')}.safetensors"
    assert path.stat().st_size == zoo.ZOO[name].size
    zoo.main([name])
    assert capsys.readouterr().out.splitlines()[0] == str(path)
    (row,) = (line for line in zoo.zoo_table().splitlines() if line.startswith(f"{name} "))
    assert row.split()[-4:] == ["2", "Apache-2.0", "esrgan_jax", "packaged"]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_equal_the_converters_output(name, tmp_path):
    path = zoo.resolve(name)
    assert {tensor.dtype.name for tensor in read_tensors(path).values()} == {"float16"}
    converted = tmp_path / "converted.safetensors"
    convert_rrdb.main([str(path), str(converted), "--dtype=float16"])
    assert converted.read_bytes() == path.read_bytes()


def test_the_networks_are_those_of_the_config():
    module = create_generator(**lite_x4.get_config().generator)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    for name in NAMES:
        found, variables = load_generator(name)
        assert found.scale == zoo.ZOO[name].scale
        leaves = jax.tree.leaves(variables["params"])
        assert sum(leaf.size for leaf in leaves) == zoo.ZOO[name].parameters
        assert all(leaf.dtype == np.float32 and np.isfinite(leaf).all() for leaf in leaves)
        jax.tree.map(
            lambda a, b: np.testing.assert_equal(a.shape, b.shape),
            variables,
            {**shapes, "batch_stats": {}},
        )


def test_they_are_blended_by_default():
    gan, psnr = load_generator(GAN)[1], load_generator(PSNR)[1]
    for options, alpha in (({}, ALPHA), ({"alpha": 0.25}, 0.25)):
        upscaler = Upscaler.load(denoise=0, **options)
        assert upscaler.name == f"{described(PSNR)} x {1 - alpha:g} + {described(GAN)} x {alpha:g}"
        expected = interpolate_params(psnr, gan, alpha)
        jax.tree.map(np.testing.assert_array_equal, upscaler.runner.variables, expected)
    assert Upscaler.load(alpha=0, denoise=0).name == described(PSNR)
    assert Upscaler.load(alpha=0, denoise=1).name == described(REAL_PSNR)


def test_a_folder_with_their_name_is_ignored(tmp_path):
    """Users may give such names to folders of results."""
    for name in NAMES:
        (tmp_path / name).mkdir()
    assert f"{ROOT / 'esrgan_jax'}" in str(zoo.fetch(GAN))
    assert "lite_x4_real.safetensors" in Upscaler.load().name
    ((_, upscaler),) = load_contestants([]).items()
    assert upscaler.name == Upscaler.load().name


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_missing_and_damaged_files_are_reported(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "PACKAGED", tmp_path)
    if damage == "changed":
        (tmp_path / zoo.ZOO[REAL].file).write_bytes(b"1234")
    for load in (
        lambda: Upscaler.load(alpha=1, denoise=1),
        lambda: load_generator(REAL),
        lambda: Networks([]).model(REAL, {}),
    ):
        with pytest.raises(RunError, match=r"lite_x4_real.safetensors: is missing or damaged"):
            load()


def test_the_docs_give_the_default_alpha():
    pages = ("upscaling.md", "converting.md")
    texts = {page: " ".join((ROOT / "docs" / page).read_text().split()) for page in pages}
    assert f"interpolated with its PSNR network with alpha = {ALPHA}." in texts["upscaling.md"]
    assert f"A · lite-x4-real | {ALPHA} |" in texts["upscaling.md"]
    assert f"lite-x4-gan) + D · (the blend above) | {DENOISE:g} |" in texts["upscaling.md"]
    assert f"--psnr_model=lite-x4-psnr --alpha={ALPHA}" in texts["converting.md"]


def test_the_terms_of_their_training_data_are_printed(capsys):
    zoo.main([GAN])
    assert "BSDS500, which is for non-commercial research" in capsys.readouterr().out


def test_a_chain_can_begin_with_them():
    chain = Upscaler.load([None, PSNR], alpha=1, denoise=1)
    assert (chain.scale, chain.name) == (16, f"{described(REAL)} > {described(PSNR)}")


def test_they_are_evaluated_by_default():
    for alpha, shown in ((None, ALPHA), (0.5, 0.5)):
        ((name, upscaler),) = load_contestants([], alpha=alpha).items()
        assert name == f"lite-x4, alpha {shown}, denoise {DENOISE:g}"
        assert upscaler.name == Upscaler.load(alpha=alpha).name


def test_the_page_offers_them_first():
    networks = Networks([])
    assert networks.choices({})[:4] == [
        (f"{REAL} (flawed photos, GAN, x4)", REAL),
        (f"{REAL_PSNR} (flawed photos, PSNR, x4)", REAL_PSNR),
        (f"{GAN} (clean photos, GAN, x4)", GAN),
        (f"{PSNR} (clean photos, PSNR, x4)", PSNR),
    ]
    assert (networks.first, networks.partner(REAL)) == (REAL, REAL_PSNR)
    assert networks.partner(GAN) == PSNR
    gan, psnr = (networks.model(name, {}) for name in (REAL, REAL_PSNR))
    assert make_upscaler(gan, psnr, ALPHA).name == Upscaler.load().name


def test_training_can_start_from_them(tmp_path):
    config = lite_x4.get_config()
    config.psnr.init_from = PSNR
    variables = initial_generator(config, psnr_stage(config, create_mesh()), epath.Path(tmp_path))
    assert variables is not None
    jax.tree.map(np.testing.assert_array_equal, variables, load_generator(PSNR)[1])


def test_they_are_installed_with_the_package():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["esrgan_jax"].split()
    installed = {path for pattern in patterns for path in (ROOT / "esrgan_jax").glob(pattern)}
    assert {zoo.fetch(name) for name in zoo.ZOO if not zoo.ZOO[name].url} < installed
