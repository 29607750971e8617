"""Arrows go one way: nothing imports a command, and no two modules import each other."""

import ast
import graphlib
from pathlib import Path

import esrgan_jax

PACKAGE = Path(esrgan_jax.__file__).parent
COMMANDS = {f"esrgan_jax.{name}" for name in ("main", "upscale", "interpolate", "evaluate", "app")}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, inside functions too, but for types alone."""
    found = set()
    nodes = [ast.parse(path.read_text())]
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner | {str(node.module)}
    return found & MODULES.keys()


IMPORTS = {name: imported(path) for name, path in MODULES.items()}


def test_nothing_imports_a_command():
    assert {name: found & COMMANDS for name, found in IMPORTS.items() if found & COMMANDS} == {}


def test_no_modules_import_each_other():
    lazily = {"esrgan_jax"}  # its public names are found on first use
    graph = {name: found for name, found in IMPORTS.items() if name not in lazily}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle
