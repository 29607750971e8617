"""Every `file:name` in docs/paper.md exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACE = re.compile(r"`([\w/]+\.py):([\w.]+)`")


def names(file: Path) -> set[str]:
    """Returns the functions, classes, methods and constants that a module defines."""
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            methods = (part.name for part in node.body if isinstance(part, ast.FunctionDef))
            found |= {node.name, *(f"{node.name}.{name}" for name in methods)}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def exists(place: str, name: str) -> bool:
    in_root = place.startswith(("configs/", "tools/"))
    file = ROOT / place if in_root else ROOT / "esrgan_jax" / place
    return file.is_file() and name in names(file)


def test_every_place_exists():
    places = PLACE.findall((ROOT / "docs" / "paper.md").read_text())
    assert len(places) > 40
    assert [place for place in places if not exists(*place)] == []


@pytest.mark.parametrize(
    "place", [("models/rrdb.py", "RRDB.tail"), ("models/rrdbs.py", "RRDB"), ("x4.py", "get_config")]
)
def test_a_place_that_does_not_exist_is_noticed(place):
    assert not exists(*place)
