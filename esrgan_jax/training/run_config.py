"""The config of a run as its folder and checkpoints store it."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from etils import epath

from esrgan_jax.bucket import is_bucket, reached
from esrgan_jax.errors import InputError
from esrgan_jax.files import no_space, write_error
from esrgan_jax.models import COMPUTATION, DISCRIMINATORS
from esrgan_jax.training.setting_rules import discriminator_settings

# A ConfigDict, whose annotations declare every value as a union of six types.
Config = Any


def to_json(config: Config) -> dict[str, Any]:
    """Returns the config as JSON values, with the scale also in the generator's section."""
    values = json.loads(json.dumps(config.to_dict()))
    values["generator"]["scale"] = config.scale
    return values | {"discriminator": discriminator_settings(values["discriminator"])}


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Adds settings that the configs of older checkpoints do not have."""
    stage_settings = {"optimizer": "adam", "unsharp": []}
    added = {
        "discriminator": {"name": "vgg"},
        "data": {"cache": "memory"},
        "mesh": {"data": None, "fsdp": 1, "rules": [["batch_stats", "replicated"], [".*", "fsdp"]]},
        "degradation": {"name": "bicubic", "margin": 72},
        **{stage: stage_settings for stage in ("psnr", "gan") if stage in values},
    }
    return {**values, **{key: value | values.get(key, {}) for key, value in added.items()}}


def write_config(config: Config, workdir: epath.Path) -> None:
    """Writes config.json, and prints what differs from an earlier run in this folder.

    Raises:
        InputError: The folder cannot be written.
        RunError: The disk is full.
    """
    path, new = workdir / "config.json", to_json(config)
    try:
        with reached(path):
            text = path.read_text() if path.exists() else None
        old = _named(json.loads(text)) if text else new
    except (OSError, TypeError, ValueError):
        old = new  # a power failure cut the file; only the comparison is lost
    try:
        _write(path, json.dumps(new, indent=2) + "\n")
    except OSError as error:
        if no_space(workdir, error):
            raise write_error(path, error) from error
        reason = error.strerror or "there is no such bucket"
        raise InputError(f"--workdir={workdir} cannot be written: {reason}") from None
    for key, (before, now) in differences(old, new).items():
        if key != "data.changed":
            print(
                f"config, changed since the last run here: {key} {before} -> {now}", file=sys.stderr
            )


def _write(path: epath.Path, text: str) -> None:
    """Writes a file completely or not at all."""
    if is_bucket(path):
        with reached(path):
            path.write_text(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text)
    partial.replace(path)


def differences(old: Any, new: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """Returns the keys whose values differ, with both values; a missing key has None."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {where: (old, new)}
    found = {}
    for key in sorted(old.keys() | new.keys()):
        found |= differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    return found


def refused_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], stage: str
) -> dict[str, tuple[Any, Any]]:
    """Returns the differences with which a stage cannot continue, since they change the state."""
    old, new = _named(old), _named(new)
    discriminator = DISCRIMINATORS.get(new["discriminator"]["name"])
    fixed_size = discriminator is None or discriminator.fixed_size

    def refused(key: str, before: object, now: object) -> bool:
        section, _, name = key.partition(".")
        if section == "generator":
            return name not in (*COMPUTATION, "scale")  # compared as the config's scale
        if section == "discriminator":
            return stage == "gan" and name not in COMPUTATION
        if key == f"{stage}.optimizer":
            return True
        if key in (f"{stage}.clip_norm", f"{stage}.ema_decay"):
            return bool(before) != bool(now)
        return key == "scale" or (key == "gan.hr_patch" and stage == "gan" and fixed_size)

    # A key that the older config lacks was not a setting yet.
    return {
        key: (before, now)
        for key, (before, now) in differences(old, new).items()
        if before is not None and refused(key, before, now)
    }
