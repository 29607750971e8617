"""The config of a run as its folder and checkpoints store it."""

import json
import sys
from typing import Any

from etils import epath

from esrgan_jax.errors import InputError
from esrgan_jax.files import no_space, write_error
from esrgan_jax.models import COMPUTATION

# A ConfigDict; its own annotations take every value for any of six types.
Config = Any


def to_json(config: Config) -> dict[str, Any]:
    """The config as JSON holds it, the scale also where a generator is read from."""
    values = json.loads(json.dumps(config.to_dict()))
    values["generator"]["scale"] = config.scale
    return _named(values)


def _named(values: dict[str, Any]) -> dict[str, Any]:
    """With the discriminator's name, which configs lacked while there was one alone."""
    return {**values, "discriminator": {"name": "vgg", **values.get("discriminator", {})}}


def write_config(config: Config, workdir: epath.Path) -> None:
    """Writes config.json; says what differs from an earlier run in this folder.

    Raises:
        InputError: The folder cannot be written.
        RunError: There is no room in it.
    """
    path, new = workdir / "config.json", to_json(config)
    try:
        old = _named(json.loads(path.read_text())) if path.exists() else new
    except (OSError, TypeError, ValueError):
        old = new  # cut when the machine went down: only the comparison is lost
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(json.dumps(new, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        if no_space(workdir, error):
            raise write_error(path, error) from error
        raise InputError(f"--workdir={workdir} cannot be written: {error.strerror}") from None
    for key, (before, now) in differences(old, new).items():
        if key != "data.changed":
            print(
                f"config, changed since the last run here: {key} {before} -> {now}", file=sys.stderr
            )


def differences(old: Any, new: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, with both values; None where there is no such key."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {where: (old, new)}
    found = {}
    for key in sorted(old.keys() | new.keys()):
        found |= differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    return found


def refused_changes(
    old: dict[str, Any], new: dict[str, Any], stage: str
) -> dict[str, tuple[Any, Any]]:
    """Those of the differences with which a stage cannot go on: they change what is saved."""

    def refused(key: str, before: Any, now: Any) -> bool:
        section, _, name = key.partition(".")
        if section == "generator":
            return name not in (*COMPUTATION, "scale")  # the config's scale says it
        if section == "discriminator":
            return stage == "gan" and name not in COMPUTATION
        if key in (f"{stage}.clip_norm", f"{stage}.ema_decay"):
            return bool(before) != bool(now)
        return key in ("scale", "data.num_workers") or (key == "gan.hr_patch" and stage == "gan")

    # What the older config has not was no setting yet.
    return {
        key: (before, now)
        for key, (before, now) in differences(_named(old), _named(new)).items()
        if before is not None and refused(key, before, now)
    }
