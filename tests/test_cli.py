"""The console script esrgan-jax and its --help."""

import subprocess
import sys

from esrgan_jax.cli import COMMANDS

HELP = """
import sys
from esrgan_jax.cli import find
for place in {places}:
    sys.argv = ["esrgan-jax", "--help"]
    try:
        find(place)()
    except SystemExit:
        pass
print([name for name in ("jax", "flax", "orbax", "skimage", "matplotlib") if name in sys.modules])
"""


def test_help_imports_no_large_library():
    """No command imports a large library before it has parsed its arguments."""
    places = [command.place for command in COMMANDS.values()]
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(places=places)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.count("usage: ") == len(places)
