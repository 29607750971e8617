"""Training from the command line."""

import difflib
import itertools
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from esrgan_jax import __version__
from esrgan_jax.errors import InputError, run_command, signal_code
from esrgan_jax.packaged import home
from esrgan_jax.training.stopping import RunStopped, end_at_once, ignore_from_now_on

USAGE = "python -m esrgan_jax.main --config=configs/x4.py --workdir=DIR [--config.KEY=VALUE …]"
HELP = f"""Trains the PSNR stage and the GAN stage, or continues them; see docs/training.md.

usage: {USAGE}

  --config=FILE       a config, such as configs/x4.py, or configs/x4.py:basicsr with a recipe
  --workdir=DIR       folder of the run: checkpoints, logs, the config; training continues from it
  --config.KEY=VALUE  changes a setting; with --config, --help lists them all
  --coordinator=HOST:PORT, --num_processes=N, --process_id=I
                      for several processes, where they do not find each other by themselves; see
                      docs/scaling.md
  --requeue           SIGTERM ends with exit code 75, "try again later", instead of 143, for
                      schedulers that start the command again
  --help, --version
"""
_CONFIG = config_flags.DEFINE_config_file("config", None, "A config file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes train.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this one is, from 0.")
_REQUEUE = flags.DEFINE_boolean("requeue", False, "Exit code 75 after SIGTERM.")


def load_config(name: str) -> ConfigDict:
    """Loads the config FILE or FILE:RECIPE.

    Raises:
        InputError: The file is missing, fails, or is not a config.
    """
    file, colon, recipe = name.partition(":")
    if not Path(file).is_file():
        packaged = [path.relative_to(home()) for path in home().glob("configs/**/*.py")]
        packaged.sort(key=lambda path: (len(path.parts), path))
        files = ", ".join(map(str, packaged))
        raise InputError(f"--config={name}: there is no such file; the package has {files}")
    try:
        get_config = runpy.run_path(file).get("get_config")
        config = get_config(*[recipe] * bool(colon)) if get_config else None
    except Exception as error:  # a user's config may raise anything
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        reason = " ".join(str(error).split())
        raise InputError(f"--config={name} cannot be loaded: {kind}{reason}") from error
    if get_config is None:
        raise InputError(f"--config={name}: has no get_config, so it is not a config")
    if not isinstance(config, ConfigDict):
        raise InputError(f"--config={name}: get_config does not return a ConfigDict")
    return config


def settings(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every setting with its key, as it is written on the command line."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _help(config: ConfigDict | None) -> str:
    if config is None:
        return HELP
    from esrgan_jax.training.setting_rules import rules

    what, rows = rules(config.to_dict()), dict(settings(config))
    what = {key: what.get(key) or what.get(key.rpartition(".")[0], "") for key in rows}
    keys, shown = max(map(len, rows)), {key: f"{value!r}" for key, value in rows.items()}
    values = min(max(map(len, shown.values())), 24)
    lines = [f"  {key:{keys}}  {shown[key]:{values}}  {what[key]}" for key in rows]
    return HELP + "\nsettings, their values, and what they may be:\n\n" + "\n".join(lines)


def _check_names(arguments: list[str], config: ConfigDict) -> None:
    """Raises InputError for an unknown flag or setting, and suggests a similar one."""
    keys = dict(settings(config))
    sections = {key.rpartition(".")[0] for key in keys}
    for text in arguments:
        name = text.lstrip("-").partition("=")[0]
        if text == "--":
            return
        if not text.startswith("-") or not name[:1].isalpha() or name in flags.FLAGS:
            continue
        key = name.removeprefix("config.")
        if name != key and key in keys:
            continue
        if key in sections:
            raise InputError(f"--{name} is a section: change one of its settings, see --help")
        near = difflib.get_close_matches(name, ["config", "workdir", "help", "version"], 1)
        near += [f"config.{key}" for key in difflib.get_close_matches(key, list(keys), 1)]
        # For a setting, suggest a setting; for a flag, a flag.
        meant = near[-1:] if "." in name or name.removeprefix("no") in keys else near[:1]
        kind = "setting" if name != key else "flag"
        advice = f"did you mean --{meant[0]}?" if meant else "see --help"
        raise InputError(f"there is no {kind} --{name}: {advice}")


def _parse(argv: list[str]) -> list[str]:
    # Configs import each other: `from configs import x4`, from the current folder or the package.
    sys.path += [folder for folder in ("", str(home())) if folder not in sys.path]
    argv = _expand_paths(argv)
    arguments = argv[1:]
    if "--version" in arguments:
        print(f"esrgan_jax {__version__}")
        sys.exit(0)
    configs = [a.partition("=")[2] for a in arguments if a.lstrip("-").startswith("config=")]
    configs += [b for a, b in itertools.pairwise(arguments) if a in ("--config", "-config")]
    config = load_config(configs[-1]) if configs else None
    if {"--help", "-help", "-h", "--helpfull", "--helpshort"} & set(arguments):
        print(_help(config))
        sys.exit(0)
    _check_names(arguments, config or ConfigDict())
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, KeyError, AttributeError, ValueError, TypeError) as error:
        raise InputError(_reason(error, config or ConfigDict())) from error
    if len(rest) > 1:
        raise InputError(f"unknown argument {rest[1]!r}: flags look like --workdir=DIR")
    if _CONFIG.value is None or not _WORKDIR.value:
        raise InputError(f"--config or --workdir is missing: {USAGE}")
    _clear_paths(_CONFIG.value)
    return rest


def _clear_paths(config: ConfigDict) -> None:
    """Sets texts that are "", "none" or "None" to None where the rule ends in "or none".

    A file of that name is ./none.
    """
    from esrgan_jax.training.setting_rules import rules

    what = rules(config.to_dict())
    for key, value in list(settings(config)):
        absent = isinstance(value, str) and value.lower() in ("", "none")
        if absent and what.get(key, "").endswith("or none"):
            config.update_from_flattened_dict({key: None})


def _reason(error: Exception, config: ConfigDict) -> str:
    """Returns absl's message in one line; for a value of the wrong type, what to take instead."""
    from esrgan_jax.training.setting_rules import rules

    text = " ".join(str(error).split())
    flag = text.removeprefix("flag ").partition(": ")[0]
    what = rules(config.to_dict()).get(flag.removeprefix("--config.").partition("=")[0])
    return f"{flag}: take {what}" if what else text


def _expand_paths(arguments: list[str]) -> list[str]:
    """Returns the arguments with ~ expanded, and with the package's path of a packaged config."""
    expanded = list(arguments)
    for index, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        name = flag.lstrip("-")
        if equals and name in ("config", "workdir"):
            value = os.path.expanduser(value)
            expanded[index] = f"{flag}={_packaged(value) if name == 'config' else value}"
        elif name == "config" and not equals and index + 1 < len(arguments):
            expanded[index + 1] = _packaged(arguments[index + 1])
    return expanded


def _packaged(config: str) -> str:
    """Returns the config FILE or FILE:RECIPE; the package's if there is no such file here."""
    file, colon, recipe = config.partition(":")
    packaged = home() / file
    if Path(file).exists() or not packaged.is_file():
        return config
    return f"{packaged}{colon}{recipe}"


def _main(_: list[str]) -> None:
    end_at_once(_REQUEUE.value)
    logging.set_verbosity(logging.WARNING)  # Orbax logs every phase of a save
    from esrgan_jax import distributed, process_watch
    from esrgan_jax.compilation import keep_programs
    from esrgan_jax.training.loop import train_and_evaluate, use_cores

    keep_programs()
    count = distributed.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    watch = process_watch.ProcessWatch() if count > 1 else None
    try:
        use_cores(_CONFIG.value, count)
        train_and_evaluate(_CONFIG.value, str(_WORKDIR.value))
    except RunStopped as stopped:
        ignore_from_now_on()  # while Python ends, a signal would change the exit code
        code = signal_code(stopped.signal, _REQUEUE.value)
        if watch:
            watch.leave(stopped, code)
        print(stopped, file=sys.stderr)
        sys.exit(code)
    except Exception as error:
        if watch:
            watch.leave(error)
        raise
    if watch:
        watch.stop()


def run() -> NoReturn:
    """Runs the command and exits."""
    end_at_once("--requeue" in sys.argv)  # until training begins there is nothing to save
    # When a run is ended at once, Python's resource tracker warns that it frees semaphores.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    run_command(lambda: app.run(_main, flags_parser=_parse))


if __name__ == "__main__":
    run()
