"""Training from the command line."""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from esrgan_jax.errors import InputError, run_command
from esrgan_jax.stopping import Stopped, end_at_once

USAGE = "python -m esrgan_jax.main --config=configs/x4.py --workdir=DIR [--config.KEY=VALUE …]"
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, such as configs/x4.py or configs/x4.py:basicsr.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: checkpoints, logs, the config. Training goes on from it."
)


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise InputError(f"unknown argument {rest[1]!r}: flags look like --workdir=DIR")
        if _CONFIG.value is None or not _WORKDIR.value:
            raise InputError(f"--config or --workdir is missing: {USAGE}")
        _CONFIG.value.to_dict()  # fails here if the file could not be loaded
    except (flags.Error, OSError, KeyError, AttributeError, ValueError) as error:
        # An error inside a config file comes with its whole traceback: the last line says it.
        text = f"no key {error.args[0]}" if isinstance(error, KeyError) else str(error)
        lines = text.splitlines()
        raise InputError(" ".join([lines[0], lines[-1]] if len(lines) > 1 else lines)) from error
    return rest


def _main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells every phase of a save
    from esrgan_jax.compilation import keep_programs
    from esrgan_jax.train import train_and_evaluate, use_cores

    keep_programs()
    use_cores(_CONFIG.value)
    try:
        train_and_evaluate(_CONFIG.value, str(_WORKDIR.value))
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(128 + stopped.signal)


if __name__ == "__main__":
    end_at_once()  # before and after the training, where there is nothing to save
    run_command(lambda: app.run(_main, flags_parser=_parse))
