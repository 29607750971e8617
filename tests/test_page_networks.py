"""Tests of the page's networks: keys, labels, partners for blending, and loaded upscalers."""

import os

import numpy as np
import pytest

from esrgan_jax.app import networks
from esrgan_jax.app.networks import NONE, Networks, make_upscaler
from esrgan_jax.errors import InputError
from esrgan_jax.upscaling.upscaler import Upscaler


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ESRGAN_JAX_CACHE", str(tmp_path))
    return tmp_path


def test_choices_are_uploaded_given_and_zoo_networks():
    offered = Networks(["runs/x4/gan", "/home/me/a/m.npz", "bsrgan-x4"])
    assert offered.choices({"own-0": "mine.pth"})[:4] == [
        ("mine.pth (uploaded)", "own-0"),
        ("x4/gan", "given-0"),
        ("m.npz", "given-1"),
        ("bsrgan-x4", "bsrgan-x4"),
    ]
    labels = [label for label, _ in offered.choices({})[3:]]
    assert "esrgan-x4 (clean photos, GAN, x4, 67 MB to download)" in labels
    assert not any(label.startswith(("vgg19", "bsrgan")) for label in labels)


def test_choices_do_not_show_folders_of_this_machine():
    offered = Networks(["/home/me/one/m.npz", "/home/me/two/m.npz", "/runs/gan"], "/home/me/p.pth")
    labels = [label for label, _ in offered.choices({})[:4]]
    assert labels == ["one/m.npz", "two/m.npz", "runs/gan", "p.pth"]
    for label, key in offered.choices({}):
        assert "/home" not in label + key
        assert not label.startswith("/")
        assert not key.startswith("/")


def test_only_keys_of_choices_name_a_model(tmp_path):
    offered, own = Networks(["a/m.npz"]), {"own-0": tmp_path / "mine.pth"}
    assert offered.model("given-0", {}) == "a/m.npz"
    assert offered.model("own-0", own) == str(tmp_path / "mine.pth")
    assert offered.model("lite-x4-gan", {}).endswith("weights/lite_x4_gan.safetensors")
    assert offered.model("esrgan-x4", {}) == "esrgan-x4"
    for key in ("/etc/passwd", "own-0", "vgg19", "a/m.npz", "given-1", ""):
        with pytest.raises(InputError, match="is not one of the networks to choose from"):
            offered.model(key, {})


def test_partners_are_given_packaged_or_already_downloaded(cache):
    offered = Networks(["a.npz", "b.npz"], "p.npz")
    assert (offered.first, offered.partner("given-0"), offered.partner("given-1")) == (
        "given-0",
    ) + ("given-2",) * 2
    assert offered.partner("given-2") == NONE
    assert Networks(["a.npz"]).partner("given-0") == NONE
    assert Networks([]).first == "lite-x4-real"
    assert offered.partner("lite-x4-gan") == "lite-x4-psnr"
    assert offered.partner("realesrgan-x4plus") == NONE
    (cache / "RealESRNet_x4plus.pth").write_bytes(b"")
    assert offered.partner("realesrgan-x4plus") == "realesrnet-x4plus"


def test_the_scale_of_a_network_is_known_before_its_download(page_models):
    offered = Networks([str(page_models["x2"])])
    assert offered.scale("given-0", {}) == 2
    assert offered.scale("realesrgan-x2plus", {}) == 2
    assert offered.scale("own-0", {"own-0": page_models["gan"]}) == 4


def test_blending_matches_upscaler_load_and_reads_each_network_once(page_models, rng, monkeypatch):
    gan, psnr = str(page_models["gan"]), str(page_models["psnr"])
    image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for alpha in (0.0, 0.3, 1.0):
        upscaler = make_upscaler(gan, psnr, alpha)
        expected = Upscaler.load(gan, psnr_model=psnr, alpha=alpha)
        assert upscaler.name == expected.name
        np.testing.assert_array_equal(upscaler(image), expected(image))
    monkeypatch.setattr(networks, "load_model", lambda _: pytest.fail("read again"))
    make_upscaler(gan, psnr, 0.7)
    os.utime(gan, (1, 1))
    with pytest.raises(pytest.fail.Exception, match="read again"):
        make_upscaler(gan)


def test_tiles_have_at_most_512_pixels_by_default(page_models):
    gan = str(page_models["gan"])
    assert make_upscaler(gan).tile == min(Upscaler.load(gan).tile, 512)
    assert make_upscaler(gan, tile=640).tile == 640


def test_networks_that_cannot_be_blended_are_refused(page_models):
    gan, x2 = str(page_models["gan"]), str(page_models["x2"])
    with pytest.raises(InputError, match=r"^x2\.safetensors is a x2 RRDBNet and gan\.safetensors"):
        make_upscaler(gan, x2, 0.5)
    with pytest.raises(InputError, match=r"gan\.safetensors: is chosen twice"):
        make_upscaler(gan, gan, 0.5)
