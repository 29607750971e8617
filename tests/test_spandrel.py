"""Tests that spandrel, which ComfyUI, chaiNNer and others use, reads the weights we write.

spandrel 0.4.2 needs torch; it imports torchvision only for other architectures, so a stub replaces
torchvision where it is not installed. `make peers` installs spandrel and torch.
"""

import importlib.machinery
import importlib.util
import itertools
import sys
import types

import jax
import numpy as np
import pytest

from esrgan_jax.checkpoint import save_generator
from esrgan_jax.interop.rrdb_names import NAMINGS
from esrgan_jax.models.rrdb import RRDBNet

torch = pytest.importorskip("torch", reason="needs torch: make peers")

ARCHITECTURES = {
    "x4": {},
    "x2 that unshuffles": {"scale": 2, "unshuffle": 2},
    "x1 that unshuffles": {"scale": 1, "unshuffle": 4},
    "x32": {"scale": 32, "num_blocks": 1},
    "x8, gray": {"scale": 8, "in_channels": 1, "out_channels": 1, "num_blocks": 1},
    "ESRGAN+": {"plus": True},
}


class _Anything(types.ModuleType):
    """A stub of a module in which every name exists."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name)

    def __call__(self, *_, **__):
        return _Anything("called")


@pytest.fixture(scope="module")
def loader():
    if importlib.util.find_spec("torchvision") is None:
        for name in ("", ".ops", ".models", ".transforms", ".transforms.functional", ".utils"):
            stub = _Anything(f"torchvision{name}")
            stub.__spec__ = importlib.machinery.ModuleSpec(f"torchvision{name}", None)
            stub.__path__ = []
            sys.modules.setdefault(f"torchvision{name}", stub)
    spandrel = pytest.importorskip("spandrel", reason="needs spandrel: make peers")
    return spandrel.ModelLoader()


def cases():
    """Yields every case; quick are those of x4, and of every architecture in one kind of file."""
    for naming, suffix, architecture in itertools.product(
        NAMINGS, (".pth", ".safetensors"), ARCHITECTURES
    ):
        usual = "old" if architecture == "ESRGAN+" else "basicsr"
        quick = architecture == "x4" or (naming, suffix) == (usual, ".pth")
        yield pytest.param(naming, suffix, architecture, marks=[] if quick else [pytest.mark.slow])


@pytest.mark.parametrize(("naming", "suffix", "architecture"), list(cases()))
def test_spandrel_computes_the_same_output(
    tmp_path, loader, random_generator, rng, naming, suffix, architecture
):
    fields = {"num_features": 8, "num_growth": 32, **ARCHITECTURES[architecture]}
    if fields.get("plus") and naming != "old":
        pytest.skip("spandrel drops ESRGAN+'s 1x1 convolutions in this naming, as we document")
    fields, params, _ = random_generator(rng, **fields)
    # Weights as small as trained ones, so that values stay near those of images.
    params = {k: _scaled(v) for k, v in params.items()}
    path = tmp_path / f"model{suffix}"
    module = RRDBNet(**fields)
    save_generator(path, module, {"params": params}, naming)
    model = loader.load_from_file(path)
    assert (model.architecture.id, model.scale) == ("ESRGAN", fields["scale"])
    assert (model.input_channels, model.output_channels) == (
        fields["in_channels"],
        fields["out_channels"],
    )
    lr = rng.random((1, 4, 8, fields["in_channels"]), np.float32)
    with torch.no_grad():
        theirs = model.model(torch.from_numpy(lr.transpose(0, 3, 1, 2).copy())).numpy()
    ours = np.asarray(jax.jit(module.apply)({"params": params}, lr))
    np.testing.assert_allclose(ours, theirs.transpose(0, 2, 3, 1), rtol=0, atol=1e-5)


def _scaled(node):
    if isinstance(node, dict):
        return {name: _scaled(inner) for name, inner in node.items()}
    return node * np.float32(0.05)
