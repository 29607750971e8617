"""Parses the arguments of every command: --version, misspelt flags, wrong values, ~ in paths."""

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
# argparse's messages, and what is printed instead.
MESSAGES = (
    (r"argument (\S+): invalid int value: .(.*).", r"\1=\2: give a whole number"),
    (r"argument (\S+): invalid float value: .(.*).", r"\1=\2: give a number"),
    (
        r"argument (\S+): invalid choice: (['\"]?)(.*)\2 \(choose from (.*)\)",
        r"\1=\3: choose one of \4",
    ),
    (r"argument (\S+): expected (?:one|at least one) argument", r"\1 needs a value"),
    (r"argument (\S+): ignored explicit argument .*", r"\1 takes no value"),
    (r"the following arguments are required: (.*)", r"give \1; --help explains it"),
    (r"unrecognized arguments: (.*)", r"there are too many arguments: \1"),
)


def program(module: str) -> str:
    """Returns the command for its usage line: `python -m …`, or the console script's."""
    name = sys.argv[0]
    return name if name.startswith(f"{SCRIPT} ") else f"python -m esrgan_jax.{module}"


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the arguments of a command.

    Raises:
        InputError: A flag is unknown (the message suggests a similar one), a value is wrong, or a
            required argument is missing.
        SystemExit: 0 for --help and --version.
    """
    parser.error = _fail  # argparse would print all flags before the message
    parser.allow_abbrev = False  # a later flag could change what --scal means
    parser.add_argument("--version", action="version", version=f"esrgan_jax {__version__}")
    argv = list(sys.argv[1:] if argv is None else argv)
    flags = list(parser._option_string_actions)  # argparse has no public list of them
    for text in argv:
        if text == "--":
            break
        name = text.partition("=")[0]
        # -oPATH is -o with its value, but -output is a misspelt flag. -1 is a number.
        if name.startswith("--"):
            known = name in flags
        else:
            known = text[:2] in flags and f"-{name}" not in flags
        if re.match(r"--?[^\W\d]", text) and not known:
            meant = _similar(name, [flag[2:] for flag in flags if flag.startswith("--")])
            meant = meant.replace("mean ", "mean --") or " --help lists all"
            raise InputError(f"there is no flag {name}.{meant}")
    # Inputs may come between flags. But then argparse ignores a --.
    return parser.parse_args(argv) if "--" in argv else parser.parse_intermixed_args(argv)


def _similar(name: str, flags: Sequence[str]) -> str:
    """Returns " Did you mean X?" with the flag most similar to the unknown flag `name`, or ""."""
    word = name.lstrip("-").replace("-", "_").lower()
    begun = [flag for flag in flags if flag.startswith(word) and name.startswith("--")]
    # --psnr_model of another command is --psnr here; "hr" in --threads means nothing.
    held = [flag for flag in flags if re.search(rf"(^|_){flag}|{flag}(_|$)", word)]
    return (
        did_you_mean(word, begun, 0)
        or did_you_mean(word, flags, 0.8)  # misspelt
        or did_you_mean(word, held, 0)
        or did_you_mean(word, flags)
    )


def _fail(message: str) -> NoReturn:
    """Raises an InputError with the message of `MESSAGES` for one of argparse's."""
    message = re.sub(r"-\w/(?=--)", "", message)  # of -o/--output the long name
    for pattern, template in MESSAGES:
        if match := re.fullmatch(pattern, message, re.DOTALL):
            raise InputError(match.expand(template))
    raise InputError(message.removeprefix("argument "))


def path_type(text: str) -> Path:
    """Converts an argument to a path; shells leave the ~ of --output=~/large as it is."""
    if not text:  # an unset variable of the shell; Path("") would be the current folder
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(os.path.expanduser(text))


def model_type(text: str) -> str:
    """Expands the ~ of an argument that is a model: a path or a published name."""
    return os.path.expanduser(text)
