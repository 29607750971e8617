"""Configures Orbax: items as readable JSON next to the arrays, and no log output.

What Orbax has to say, of every phase of a save and of every failure, it also raises: the caller
tells the user in a sentence. Its own lines are kept away from them.
"""

import errno
import logging
import os
import re
import sys
import threading
import warnings
from traceback import walk_tb
from types import TracebackType
from typing import Any

from etils import epath
from orbax.checkpoint import v1 as ocp

from esrgan_jax.checksums import DamagedError
from esrgan_jax.errors import LONGEST_NAME, RunError

JSON_ITEMS = ("config", "pictures")
# What keeps a checkpoint from being read without having damaged it.
_ELSEWHERE = {os.strerror(n) for n in (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)} | {
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
}


def orbax_context() -> ocp.Context:
    """Items of plain values are kept as JSON; Orbax would make trees of arrays of them."""
    registry = ocp.handlers.local_registry(include_global_registry=True)
    for name in JSON_ITEMS:
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context = ocp.Context()
    context.checkpointables.registry = registry
    return context


def load_items(step: epath.Path, items: dict[str, Any]) -> dict[str, Any]:
    """Items of a checkpoint as `ocp.load_checkpointables` reads them.

    Raises:
        DamagedError: They are not there as they were saved.
        RunError: They may be, but cannot be read.
    """
    try:
        with orbax_context():
            return ocp.load_checkpointables(step, items)
    except MemoryError:
        raise RunError(f"{step}: does not fit in memory") from None
    except Exception as error:  # JSON, Orbax, TensorStore and Grain raise nearly every kind
        if isinstance(error, PermissionError) or any(text in str(error) for text in _ELSEWHERE):
            raise RunError(f"{step}: cannot be read: {reason_of(error)}") from error
        raise DamagedError(step, f"its {' and '.join(items)} cannot be read") from error


def reason_of(error: Exception) -> str:
    """Why Orbax or TensorStore failed, in a few words: of the system where it was that."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip() or type(error).__name__
    if number := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(number[1]))
    return text.partition("\n")[0][:LONGEST_NAME]


def _is_orbax(path: str) -> bool:
    return "/orbax/checkpoint/" in path.replace("\\", "/")


def _files(traceback: TracebackType | None) -> list[str]:
    return [frame.f_code.co_filename for frame, _ in walk_tb(traceback)]


def _of_a_thread(args: threading.ExceptHookArgs) -> None:
    if not any(map(_is_orbax, _files(args.exc_traceback))):
        _threads_hook(args)


def _of_a_callback(args: "sys.UnraisableHookArgs") -> None:
    # Where a save fails, TensorStore calls back for each of its other files after Orbax has closed
    # the event loop that would have listened.
    # It belongs to no object; the loop may be asyncio's or uvloop's.
    if args.object is not None or str(args.exc_value) != "Event loop is closed":
        _unraisable_hook(args)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    # asyncio tells of reads that failed beside the one that Orbax raised.
    late = record.name == "asyncio" and "tensorstore_spec" in record.getMessage()
    return not (late or _is_orbax(record.pathname))


# Orbax logs by absl, from threads of its own as well.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).addFilter(_is_not_of_orbax)
warnings.filterwarnings("ignore", module=r"orbax\.checkpoint\.")
_threads_hook, threading.excepthook = threading.excepthook, _of_a_thread
_unraisable_hook, sys.unraisablehook = sys.unraisablehook, _of_a_callback
