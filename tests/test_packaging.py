"""Tests of the requirements: bounds, constraints, and packages that are not needed."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def _requirements() -> list[Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    options, extras = config["options"], config["options.extras_require"]
    texts = [options["install_requires"], extras["test"], extras["app"], extras["video"]]
    return [Requirement(line) for text in texts for line in text.splitlines() if line]


def _constraints() -> dict[str, list[Requirement]]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, filter(lambda line: line[0] != "#", lines)):
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_constraints_satisfy_the_requirements_on_every_python():
    constraints = _constraints()
    for requirement in _requirements():
        pinned = constraints[canonicalize_name(requirement.name)]
        for python in ("3.11", "3.12", "3.13"):
            environment = {"python_version": python}
            (one,) = [r for r in pinned if not r.marker or r.marker.evaluate(environment)]
            (version,) = one.specifier
            assert version.operator == "=="
            assert requirement.specifier.contains(version.version), (requirement, python)


def test_packages_that_break_often_have_an_upper_bound():
    bounded = {r.name for r in _requirements() if any(s.operator == "<" for s in r.specifier)}
    assert {"av", "orbax-checkpoint", "jax", "flax", "grain", "gradio", "optax"} <= bounded


def test_no_document_installs_an_unregistered_name():
    """`pip install esrgan_jax` would install whatever somebody registers under that name."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    files += [*ROOT.glob("esrgan_jax/**/*.py"), *ROOT.glob("tools/*.py")]
    install = re.compile(r"pip install[^\n]*?['\" ]esrgan[-_]jax(?!(\[\w+\])? @)")
    assert [file.name for file in files if install.search(file.read_text())] == []


WITHOUT_PYARROW = """
import sys
from pathlib import Path
sys.modules["pyarrow"] = None
import numpy as np
from esrgan_jax.data.builder import write_sub_images
from esrgan_jax.data.sources import ArrayRecordSource
hr = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
write_sub_images(Path("cut"), [lambda: iter([("a_s001", hr)])])
print(np.array_equal(ArrayRecordSource("cut")[0]["hr"], hr), "tensorflow" in sys.modules)
"""


def test_prepared_data_does_not_need_pyarrow(tmp_path):
    """TensorFlow Datasets requires it for Parquet files, which are not used here."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYARROW],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False"]


def test_prepare_data_asks_for_tensorflow_datasets_if_missing(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow_datasets'] = None\n"
        "from tools.prepare_data import main; from esrgan_jax.errors import run_command\n"
        "sys.argv = ['prepare_data', '--input=in', '--output=out']; run_command(main)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        2,
        "error: prepared folders need TensorFlow Datasets, which is not installed: "
        "pip install 'tensorflow-datasets'\n",
    )
