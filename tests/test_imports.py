"""Imports go one way, from the commands down, and no two modules import each other."""

import ast
import graphlib
from pathlib import Path

import esrgan_jax

PACKAGE = Path(esrgan_jax.__file__).parent
# Each module or folder imports only from lines above its own.
ROOMS = (
    "errors packaged setting_rule",
    "files progress imresize sharding checksums command_line",
    "compilation folder_lock orbax_setup models",
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
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms.split()}


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


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_every_module_imports_from_below():
    """A new module or folder gets its place in ROOMS."""
    lazily = {"esrgan_jax"}  # its public names are found on first use
    upward = [
        f"{name} imports {other}"
        for name, found in IMPORTS.items()
        for other in found - lazily
        if name not in lazily
        and room_of(name) != room_of(other)
        and FLOOR[room_of(name)] <= FLOOR[room_of(other)]
    ]
    assert upward == []


def test_no_modules_import_each_other():
    lazily = {"esrgan_jax"}  # its public names are found on first use
    graph = {name: found for name, found in IMPORTS.items() if name not in lazily}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle
