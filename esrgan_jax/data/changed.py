"""Detects whether training images differ from those of a checkpoint."""

from collections.abc import Mapping
from typing import Any

from esrgan_jax.checksums import checksum
from esrgan_jax.data.sources import Source
from esrgan_jax.errors import listed

NAMES_LISTED = 3  # names of each kind in a message


def fingerprint(source: Source) -> dict[str, Any]:
    """Returns what a checkpoint stores of a source: count, names with sizes, and their hash."""
    files = source.files()
    return {"count": len(source), "sha256": checksum(files), "files": files}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describes how two fingerprints differ: counts, and the first names of each kind, or ""."""
    if (before["count"], before["sha256"]) == (now["count"], now["sha256"]):
        return ""
    old, new = before["files"], now["files"]
    kinds = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(k for k in old.keys() & new.keys() if old[k] != new[k]),
    }
    parts = [f"{kind}: {listed(names, NAMES_LISTED)}" for kind, names in kinds.items() if names]
    return "; ".join([f"{before['count']} images then, {now['count']} now", *parts])
