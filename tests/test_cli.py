"""The console script, and how quickly commands say what they can do."""

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


def test_help_loads_nothing_heavy():
    """No command loads the large libraries before it has its arguments."""
    places = [command.place for command in COMMANDS.values()]
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(places=places)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stdout.count("usage: ") == len(places)
