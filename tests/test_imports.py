"""Imports inside the package go only downwards, and there are no import cycles."""

import ast
import graphlib
from pathlib import Path

import esrgan_jax

PACKAGE = Path(esrgan_jax.__file__).parent
# Each module or folder imports only from the lines above it.
LAYERS = (
    "errors packaged setting_rule",
    "bucket",
    "files progress gray imresize sharding checksums command_line distributed",
    "compilation folder_lock process_watch orbax_setup models degradation",
    "interop",
    "checkpoint",
    "interpolation blend",
    "images",
    "video data",
    "upscaling",
    "evaluation",
    "training batch",
    "app",
    "main upscale interpolate evaluate",
    "cli",
)
LEVEL = {unit: level for level, layer in enumerate(LAYERS) for unit in layer.split()}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py")}


def imported(path: Path) -> set[str]:
    """Returns the modules of the package that a file imports, except for type checking."""
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


def unit_of(module: str) -> str:
    return module.split(".")[1]


def test_modules_import_only_from_lower_layers():
    """A new module or folder needs an entry in LAYERS."""
    lazy = {"esrgan_jax"}  # it imports its public names on first use
    upward = [
        f"{name} imports {other}"
        for name, found in IMPORTS.items()
        for other in found - lazy
        if name not in lazy
        and unit_of(name) != unit_of(other)
        and LEVEL[unit_of(name)] <= LEVEL[unit_of(other)]
    ]
    assert upward == []


def test_there_are_no_import_cycles():
    lazy = {"esrgan_jax"}  # it imports its public names on first use
    graph = {name: found for name, found in IMPORTS.items() if name not in lazy}
    graphlib.TopologicalSorter(graph).prepare()  # a CycleError names the cycle
