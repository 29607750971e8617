"""Tests that the notebook runs, also as in Colab, and is stored without outputs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from esrgan_jax.blend import ALPHA
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscaling.upscaler import Upscaler

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "esrgan_inference.ipynb"

SAMPLE = "del os.environ['ESRGAN_JAX_IMAGE']"
PACKAGED = """
for name in ("ESRGAN_JAX_MODEL", "ESRGAN_JAX_PSNR_MODEL"):
    del os.environ[name]
"""
SLIDER = """
slider.value = 0.3
Path("view.png").write_bytes(view.value)
"""
COLAB = """
import types

photo = Path("folder/gray.png").read_bytes()


class Files:
    def upload(self):
        Path("photo.png").write_bytes(photo)
        return {"photo.png": photo}

    def download(self, name):
        Path("downloads.txt").write_text(name)


sys.modules["google.colab"] = types.SimpleNamespace(files=Files())
sys.modules.setdefault("google", types.ModuleType("google"))
"""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Runs the notebook with two small networks: its folder, and the notebook with outputs.

    After all cells, some run again: with the slider moved, in Colab, with the sample image, and
    with the networks of the package.
    """
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    pytest.importorskip("ipywidgets")
    folder = tmp_path_factory.mktemp("notebook")
    rng = np.random.default_rng(0)
    module = RRDBNet(num_features=8, num_growth=4, num_blocks=1)
    lr = np.zeros((1, 4, 4, 3), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), lr)
    for name in ("gan", "psnr"):
        variables = jax.tree.map(lambda s: rng.normal(0, 0.15, s.shape).astype(np.float32), shapes)
        variables["params"]["conv_last"]["bias"] += np.float32(0.5)
        save_generator(folder / f"{name}.safetensors", module, variables)
    save(folder / "folder" / "deep.png", rng.integers(0, 2**16, (20, 24, 4), dtype=np.uint16))
    save(folder / "folder" / "gray.png", rng.integers(0, 2**8, (20, 24, 1), dtype=np.uint8))

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    sources = {cell["id"]: cell["source"] for cell in notebook.cells}
    for source in (
        *(SLIDER, COLAB, SAMPLE, sources["image"], sources["save"]),
        *("del sys.modules['google.colab']", sources["image"], PACKAGED, sources["models"]),
    ):
        notebook.cells.append(nbformat.v4.new_code_cell(source))
    environment = {
        "ESRGAN_JAX_MODEL": "gan.safetensors",
        "ESRGAN_JAX_PSNR_MODEL": "psnr.safetensors",
        "ESRGAN_JAX_IMAGE": "folder/deep.png",
        "ESRGAN_JAX_CACHE": "folder/deep.png",  # not a folder, so that nothing can be downloaded
        **{name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")},
        "JUPYTER_PLATFORM_DIRS": "1",  # Jupyter warns where this is not set
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        resources = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    return folder, notebook


def save(path, array):
    height, width, bands = array.shape
    write_rows(path, [array], height=height, width=width, bands=bands, dtype=array.dtype)


def read(path):
    return np.concatenate(list(open_image(path).rows()))


def assert_same(image, expected):
    # The kernel has one device and the tests have eight, which sum in different orders.
    np.testing.assert_allclose(image.astype(int), expected.astype(int), rtol=0, atol=1)


def blend(folder, alpha):
    psnr = folder / "psnr.safetensors"
    return Upscaler.load(folder / "gan.safetensors", psnr_model=psnr, alpha=alpha)


def test_all_cells_run_and_show_images(executed):
    _, notebook = executed
    cells = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    assert not [o for cell in cells for o in cell["outputs"] if o["output_type"] == "error"]
    shown = {cell["id"]: "image/png" in str(cell["outputs"]) for cell in cells}
    assert [name for name in shown if shown[name]] == ["upscale", "zoom", "strip", "train"]


def test_the_saved_image_equals_the_upscaler(executed):
    folder, _ = executed
    lr = read(folder / "folder" / "deep.png")
    sr = read(folder / "deep_x4.png")
    assert sr.dtype == np.uint16
    assert_same(sr, blend(folder, ALPHA)(lr))
    assert sr[..., :3].std() > 1000


def test_the_slider_blends_the_networks(executed):
    folder, notebook = executed
    lr = read(folder / "folder" / "deep.png")[:, 2:22]  # the part in the middle that is shown
    expected = np.rint(blend(folder, 0.3)(lr)[..., :3] * (255 / 65535))
    assert_same(read(folder / "view.png"), expected)
    saved = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    sliders = [w["state"] for w in saved.values() if w["model_name"] == "FloatSliderModel"]
    assert [(s["value"], s["continuous_update"]) for s in sliders] == [(0.3, False)]


def test_colab_uploads_and_downloads_images_except_the_sample(executed):
    folder, notebook = executed
    assert (folder / "downloads.txt").read_text() == "photo_x4.png"
    gray = read(folder / "folder" / "gray.png")
    assert_same(read(folder / "photo_x4.png"), blend(folder, 0.3)(gray))
    assert read(folder / "cat.png").shape == (120, 160, 3)
    assert "cat.png: 160 x 120" in str(notebook.cells[-3]["outputs"])


def test_the_training_cell_shows_what_the_network_learns(executed):
    cell = next(cell for cell in executed[1].cells if cell["id"] == "train")
    loss = re.search(r"step 80: mean absolute difference (0\.\d+)", str(cell["outputs"]))
    assert loss
    assert float(loss[1]) < 0.3  # 0.32 in the first step


def test_the_packaged_networks_need_no_download(executed):
    assert "enlarge an image 4x and have 869,155" in str(executed[1].cells[-1]["outputs"])


ADDRESS = re.compile(r"https://github\.com/[\w-]+/esrgan_jax\b")


@pytest.fixture
def install(monkeypatch):
    """Runs the cell that installs; returns pip's arguments. The notebook is not in a clone."""

    def run(missing: bool, returncode: int = 0) -> list[list[str]]:
        calls = []

        def pip(command):
            calls.append(command[5:])
            return subprocess.CompletedProcess(command, returncode)

        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if missing else name)
        monkeypatch.setattr("os.path.exists", lambda path: path == "/dev/nvidia0")
        monkeypatch.setattr("subprocess.run", pip)
        cells = json.loads(NOTEBOOK.read_text())["cells"]
        exec("".join(next(cell["source"] for cell in cells if cell["id"] == "install")), {})
        return calls

    return run


def test_missing_packages_are_installed(install, monkeypatch):
    monkeypatch.setenv("ESRGAN_JAX_SOURCE", "a folder/esrgan_jax")
    assert install(missing=True) == [["a folder/esrgan_jax", "jax[cuda12]", "ipywidgets"]]
    assert install(missing=False) == []


def test_without_a_clone_the_repository_is_installed_that_the_readme_names(install, monkeypatch):
    monkeypatch.delenv("ESRGAN_JAX_SOURCE", raising=False)
    source = install(missing=True)[0][0]
    assert source.startswith("git+")
    pages = [NOTEBOOK.parents[1] / name for name in ("README.md", "docs/install.md")]
    named = {source.removeprefix("git+")}.union(*(ADDRESS.findall(p.read_text()) for p in pages))
    assert len(named) == 1


def test_a_failed_installation_is_reported(install):
    with pytest.raises(SystemExit, match="could not be installed"):
        install(missing=True, returncode=1)


def test_the_badge_opens_this_notebook():
    root = NOTEBOOK.parents[1]
    readme = (root / "README.md").read_text()
    (badge,) = re.findall(r"https://colab\.research\.google\.com/github/([^)]*)", readme)
    account, name, blob, branch, *path = badge.split("/")
    assert f"https://github.com/{account}/{name}" in ADDRESS.findall(readme)
    assert (blob, branch) == ("blob", "main")
    assert root.joinpath(*path) == NOTEBOOK


def test_the_file_is_valid_and_has_no_outputs():
    text = NOTEBOOK.read_text()
    notebook = json.loads(text)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    places = re.compile(r"/home|/root|/tmp|/work|/Users|/content|\b[A-Z]:\\")
    for cell in notebook["cells"]:
        assert not places.search("".join(cell["source"]))
        assert re.fullmatch(r"[a-z-]+", cell["id"])
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(notebook)
    assert nbformat.writes(nbformat.from_dict(notebook)) + "\n" == text


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_the_cells_pass_ruff(command):
    pytest.importorskip("ruff")
    ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(NOTEBOOK)]
    done = subprocess.run(ruff, capture_output=True, text=True, cwd=os.fspath(NOTEBOOK.parent))
    assert done.returncode == 0, done.stdout + done.stderr
