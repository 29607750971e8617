"""Orbax as this project uses it: readable items beside the arrays, and silent.

What Orbax has to say, of every phase of a save and of every failure, it also raises: the caller
tells the user in a sentence. Its own lines are kept away from them.
"""

import logging
import os
import re
import sys
import threading
import warnings
from traceback import walk_tb
from types import TracebackType

from orbax.checkpoint import v1 as ocp

from esrgan_jax.errors import LONGEST_NAME

JSON_ITEMS = ("config",)


def orbax_context() -> ocp.Context:
    """Items of plain values are kept as JSON; Orbax would make trees of arrays of them."""
    registry = ocp.handlers.local_registry(include_global_registry=True)
    for name in JSON_ITEMS:
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context = ocp.Context()
    context.checkpointables.registry = registry
    return context


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
    where = next(iter(_files(args.exc_traceback)), "")
    if args.object is not None or not where.endswith(os.path.join("asyncio", "base_events.py")):
        _unraisable_hook(args)


# Orbax logs by absl, from threads of its own as well.
logging.getLogger("absl").addFilter(lambda record: not _is_orbax(record.pathname))
warnings.filterwarnings("ignore", module=r"orbax\.checkpoint\.")
_threads_hook, threading.excepthook = threading.excepthook, _of_a_thread
_unraisable_hook, sys.unraisablehook = sys.unraisablehook, _of_a_callback
