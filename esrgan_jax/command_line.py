"""What all commands share: --version, suggestions for misspelt flags, and ~ in paths."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from esrgan_jax import __version__
from esrgan_jax.errors import InputError, did_you_mean

SCRIPT = "esrgan-jax"  # the console script, see `cli.py`


def program(module: str) -> str:
    """How a command was started, for its usage line: as a module, or by the console script."""
    name = sys.argv[0]
    return name if name.startswith(f"{SCRIPT} ") else f"python -m esrgan_jax.{module}"


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a command.

    Raises:
        InputError: There is no such flag, and the message names the one that was perhaps meant; a
            value is none; or something is missing.
        SystemExit: 0 for --help and --version.
    """
    parser.error = _fail  # argparse would print all flags in front of the one sentence that helps
    parser.allow_abbrev = False  # --scal is a slip, and a later flag could make it another
    parser.add_argument("--version", action="version", version=f"esrgan_jax {__version__}")
    argv = list(sys.argv[1:] if argv is None else argv)
    flags = list(parser._option_string_actions)  # argparse has no public list of them
    for text in argv:
        if text == "--":
            break
        name = text.partition("=")[0]
        # The value of -o may follow it at once; but -output is no -o. What looks like -1 is a
        # number.
        if name.startswith("--"):
            known = name in flags
        else:
            known = text[:2] in flags and f"-{name}" not in flags
        if re.match(r"--?[^\W\d]", text) and not known:
            word = name.lstrip("-").replace("-", "_").lower()
            words = [flag[2:] for flag in flags if flag.startswith("--")]
            begun = [flag for flag in words if flag.startswith(word) and name.startswith("--")]
            meant = did_you_mean(word, begun or words, 0 if begun else 0.6)
            meant = meant.replace("mean ", "mean --") or " --help lists all"
            raise InputError(f"there is no flag {name}.{meant}")
    # Names may stand between flags; but argparse then forgets what a -- said.
    return parser.parse_args(argv) if "--" in argv else parser.parse_intermixed_args(argv)


def _fail(message: str) -> NoReturn:
    raise InputError(message)


def path_type(text: str) -> Path:
    """A path, as the type of an argument: shells leave the ~ of --output=~/large as it is."""
    if not text:  # an unset variable of the shell, and Path("") would be the whole current folder
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(os.path.expanduser(text))


def model_type(text: str) -> str:
    """A MODEL, as the type of an argument: a path, or a name of the zoo."""
    return os.path.expanduser(text)
