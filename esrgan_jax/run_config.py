"""The config of a run as its folder and its checkpoints hold it."""

import json
import sys
from typing import Any

from etils import epath

from esrgan_jax.errors import InputError

# A ConfigDict; its own annotations take every value for any of six types.
Config = Any


def plain(config: Config) -> dict[str, Any]:
    """The config as JSON holds it, the scale also where a generator is read from."""
    values = json.loads(json.dumps(config.to_dict()))
    values["generator"]["scale"] = config.scale
    return values


def record(config: Config, workdir: epath.Path) -> None:
    """Writes config.json; says what differs from an earlier run in this folder.

    Raises:
        InputError: The folder cannot be written.
    """
    path, new = workdir / "config.json", plain(config)
    try:
        old = json.loads(path.read_text()) if path.exists() else new
    except ValueError:
        old = new  # cut when the machine went down: only the comparison is lost
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(new, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"--workdir={workdir} cannot be written: {error.strerror}") from None
    for change in _changes(old, new):
        print(f"config, changed since the last run here: {change}", file=sys.stderr)


def _changes(old: Any, new: Any, where: str = "") -> list[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{where} {old} -> {new}"]
    keys = sorted(old.keys() | new.keys())
    inner = [_changes(old.get(k), new.get(k), f"{where}.{k}" if where else k) for k in keys]
    return [change for changes in inner for change in changes]
