"""Finds the commands in README and docs: those in code blocks, and those in `code`."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
OURS = ("python", "esrgan-jax", "pip", "make")
STARTERS = ("srun", "mpirun", "do")  # of another command
OTHERS = [
    "git",
    "cd",
    "cat",
    "sbatch",
    "squeue",
    "tail",
    "xargs",
    "scancel",
    "scontrol",
    "if",
    "then",
    "fi",
    "source",
    "wait",
    "for",
    "done",
    "gcloud",
]
SEPARATORS = ("&&", "|", ";", "&")


class Command(NamedTuple):
    """The words of a command, and the page and line where it stands."""

    words: tuple[str, ...]
    place: str


def split(text: str) -> list[list[str]]:
    """Returns the commands of a line of a shell, without comments, redirections and variables."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    words = iter(lexer)
    for word in words:
        if word in SEPARATORS:
            commands.append([])
        elif word == ">":
            next(words)
        elif commands[-1] or not re.match(r"[A-Z_]+=", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def shell(block: re.Match[str]) -> bool:
    """Returns whether a code block has commands."""
    first = [*block[3].removeprefix("$ ").split(), ""][0]
    return block[2] == "bash" or (not block[2] and first in (*OURS, *STARTERS, *OTHERS))


def lines(block: str) -> list[str]:
    """Returns the commands of a block: all of its lines, or those after "$ " if it shows output."""
    joined = block.replace("\\\n", " ").splitlines()
    shown = [line[2:] for line in joined if line.startswith("$ ")]
    return shown or [line for line in joined if line.strip()]


def inline(text: str) -> list[re.Match[str]]:
    """Returns the commands in `code` of a page."""
    outside = BLOCK.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    start = re.compile(rf"(\w+=\S+ )*({'|'.join((*OURS, *STARTERS))}) ")
    return [match for match in CODE.finditer(outside) if start.match(match[1])]


def commands() -> list[Command]:
    """Returns all commands of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        pieces = []
        for match in BLOCK.finditer(text):
            if shell(match):
                pieces += [(match.start(3), line) for line in lines(match[3])]
        pieces += [(match.start(), match[1]) for match in inline(text)]
        for start, line in pieces:
            place = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, start) + 1}"
            found += [Command(tuple(words), place) for words in split(line)]
    return found
