"""The commands of README and docs exist, and their flags and settings are taken.

Every command in a code block or in `code` is parsed by its own parser; the settings of a training
command are checked as before a run. A flag or setting that is renamed fails here.
"""

import argparse
import configparser
import importlib
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from absl import flags

from configs import demo, lite_x4, realesrgan_x4, x4
from configs.ablations import srgan_baseline
from esrgan_jax import cli, main
from esrgan_jax.training.settings import check_run
from tests.docs_commands import BLOCK, CODE, OTHERS, PAGES, ROOT, STARTERS, commands, split

OF_OTHERS = ("--partition", "--account", "--constraint")  # of SLURM and pip
WITHOUT_PARSER = ("tests.fuzz_weight_file", "docs.examples.run_exported")


class Parsed(Exception):
    """Ends a command after its arguments were parsed."""


@pytest.fixture
def parse(monkeypatch):
    """Returns a function that runs a command until its arguments are parsed."""
    for name in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, name)

        def parse_and_stop(self, *args, original=original, **options):
            raise Parsed(original(self, *args, **options))

        monkeypatch.setattr(argparse.ArgumentParser, name, parse_and_stop)
    monkeypatch.chdir(ROOT)

    def parsed(run, arguments):
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises((Parsed, SystemExit)) as ended:
            run()
        assert ended.type is Parsed or ended.value.code in (0, None)

    return parsed


def train(arguments: list[str], monkeypatch) -> None:
    """Parses the arguments of training, and checks the settings if it has images to train on."""
    for name in ("config", "workdir"):
        flags.FLAGS[name].unparse()
    for name in list(flags.FLAGS):  # flags of the previous config
        if name.startswith("config."):
            delattr(flags.FLAGS, name)
    arguments = [word.replace("--config=…", "--config=configs/x4.py") for word in arguments]
    arguments = [word.replace("$i", "0") for word in arguments]
    monkeypatch.setattr(sys, "argv", ["main", *arguments])
    main._parse(sys.argv)
    if main._CONFIG.value.data.train:
        check_run(main._CONFIG.value, devices=8)


def module(words: Sequence[str]) -> tuple[str, list[str]]:
    """Returns the module that `python …` runs, "" for `python -m …`, and its arguments."""
    first, *rest = words[1:]
    if first == "-m":
        return (rest[0], rest[1:]) if rest and rest[0] != "…" else ("", [])
    return first.removesuffix(".py").replace("/", "."), rest


def entry(name: str) -> Callable[[], object]:
    """Returns the function that runs a module's command."""
    return importlib.import_module(name.replace("esrgan_jax.app", "esrgan_jax.app.command")).main


def check(words: list[str], parse, monkeypatch) -> None:
    """Fails if a command does not exist or does not take its arguments."""
    words = [
        word for word in words if word not in ("…", "[DIR", "…]")
    ]  # stand for more of the same
    program, *arguments = words
    if program in STARTERS:
        if "python" in words:
            check(words[words.index("python") :], parse, monkeypatch)
    elif program == "gcloud":
        for argument in arguments:
            if argument.startswith("--command="):
                for inner in split(argument.partition("=")[2]):
                    check(inner, parse, monkeypatch)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in arguments if "=" not in word} <= set(targets)
    elif program == "pip":
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        extras = re.findall(r"^\.\[(.*)\]$", "\n".join(arguments), re.MULTILINE)
        wanted = {extra for each in extras for extra in each.split(",")}
        assert wanted <= set(config["options.extras_require"])
    elif program == "esrgan-jax":
        name, *rest = arguments
        if name == "--help":
            return
        command = cli.COMMANDS[name]
        if not rest:
            return
        if command.place.startswith("esrgan_jax.main:"):
            train(rest, monkeypatch)
        else:
            parse(lambda: cli.find(command.place)(), rest)
    elif program == "python":
        name, rest = module(words)
        if name == "-c":
            compile(rest[0], "-c", "exec")
        elif name in WITHOUT_PARSER:
            assert (ROOT / Path(*name.split("."))).with_suffix(".py").is_file()
        elif name == "esrgan_jax.main" and rest:
            train(rest, monkeypatch)
        elif rest:
            parse(entry(name), rest)
        elif name:
            assert importlib.util.find_spec(name)
    else:
        assert program in OTHERS, f"{program} is not a known program"


def test_every_command_exists_and_takes_its_arguments(parse, monkeypatch, capsys):
    found, failed = commands(), []
    assert len(found) > 100
    for command in found:
        try:
            check(list(command.words), parse, monkeypatch)
        except (Exception, pytest.fail.Exception) as error:
            failed.append(f"{command.place}: {shlex.join(command.words)}\n    {error!r}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    "command",
    [
        "python -m esrgan_jax.upscale photo.jpg --outptu=large.png",
        "python -m esrgan_jax.main --config=configs/x4.py --workdir=x --config.gan.stepz=1",
        "python -m esrgan_jax.main --config=configs/x4.py --workdir=x --config.data.train=a "
        "--config.gan.hr_patch=33",
        "esrgan-jax upscail photo.jpg",
        "python tools/convert_vgg.py vgg19 --presett=caffe vgg19.npz",
        "python -m tools.no_such_tool",
        "make tset",
        "pip install '.[gpu]'",
        "pyhton -m esrgan_jax.upscale",
    ],
)
def test_a_wrong_command_is_noticed(command, parse, monkeypatch, capsys):
    (words,) = split(command)
    with pytest.raises((Exception, pytest.fail.Exception)):
        check(words, parse, monkeypatch)


def test_every_flag_and_setting_in_the_text_exists(parse, monkeypatch, capsys):
    """A flag in `code` is that of a command, a setting is in one of the configs."""
    settings = {""}
    for config in (x4, realesrgan_x4, lite_x4, demo, srgan_baseline):
        settings |= {key for key, _ in main.settings(config.get_config())}
    options = {"--help", "--version", *(f"--{name}" for name in flags.FLAGS), *OF_OTHERS}
    add = argparse._ActionsContainer.add_argument

    def remember(self, *names, **rest):
        options.update(names)
        return add(self, *names, **rest)

    monkeypatch.setattr(argparse._ActionsContainer, "add_argument", remember)
    monkeypatch.setattr(os, "_exit", sys.exit)  # by which upscale ends once JAX is imported
    modules = {module(words)[0] for words, _ in commands() if words[0] == "python"}
    for name in modules - {"", "-c", "esrgan_jax.main", *WITHOUT_PARSER}:
        parse(entry(name), ["--help"])
    for command in cli.COMMANDS.values():
        parse(lambda place=command.place: cli.find(place)(), ["--help"])
    unknown = []
    for page in PAGES:
        for code in CODE.findall(BLOCK.sub("", page.read_text())):
            for flag in re.findall(r"(?<![\w-])(--[a-z][\w.-]*)", code):
                key = flag.removeprefix("--config.").rstrip(".")
                if flag.startswith("--config."):
                    known = {key.replace("STAGE", stage) for stage in ("psnr", "gan")} & settings
                else:
                    known = flag in options
                if not known and key != "KEY":
                    unknown.append(f"{page.relative_to(ROOT)}: {flag}")
    assert unknown == []
