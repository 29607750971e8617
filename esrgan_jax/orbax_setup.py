"""Configures Orbax: items as readable JSON next to the arrays, no log output, no memory lost.

Orbax logs every phase of a save and every failure. Failures are also raised, and the caller prints
them in one sentence, so its log is hidden.
"""

import copy
import errno
import functools
import json
import logging
import os
import pickle
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from traceback import walk_tb
from types import TracebackType
from typing import Any

import jax
import tensorstore
from etils import epath
from orbax.checkpoint import v1 as ocp
from orbax.checkpoint._src.serialization import tensorstore_utils

from esrgan_jax.bucket import is_bucket, reached
from esrgan_jax.checksums import DamagedError
from esrgan_jax.errors import LONGEST_NAME, RunError

JSON_ITEMS = ("config", "pictures")
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PATIENCE = 20.0  # seconds that an error waits for a save, if there are several processes
# The system's error numbers in what Orbax logged since the last save; 0 for errors without one.
_logged: set[int] = set()
# Orbax counts loads, and names what processes wait for in a save by that number.
loads = 0
# Reasons why an undamaged checkpoint cannot be read.
_ELSEWHERE = {
    *map(os.strerror, (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE)),
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
}


def orbax_context() -> ocp.Context:
    """Returns a context that saves plain values as JSON, and a replicated array from one device.

    By default, Orbax makes arrays of plain values. And it writes a part of a replicated array from
    each device, for which it compiles a program for each shape: 4 s in the first save of the
    package's networks on two CPU cores, and later saves take longer, too.
    """
    registry = ocp.handlers.local_registry(include_global_registry=True)
    for name in JSON_ITEMS:
        registry.add(ocp.handlers.JsonHandler, checkpointable_name=name)
    context = ocp.Context()
    context.checkpointables.registry = registry
    context.array.saving.use_replica_parallel = False
    return context


def load_items(step: epath.Path, items: dict[str, Any]) -> dict[str, Any]:
    """Reads items of a checkpoint by `ocp.load_checkpointables`, each process for itself.

    Raises:
        DamagedError: They are missing or not as they were saved.
        RunError: They cannot be read now, but may be undamaged.
    """
    global loads
    loads += 1
    context = orbax_context()
    # Otherwise Orbax waits in each process for the others, which may have found damage.
    context.multiprocessing_options.primary_host = None
    context.multiprocessing_options.active_processes = {jax.process_index()}
    try:
        with context:
            return ocp.load_checkpointables(step, items)
    except MemoryError:
        raise RunError(f"{step}: does not fit in memory") from None
    except Exception as error:  # JSON, Orbax, TensorStore and Grain raise nearly every kind
        # In a bucket, an object is whole or missing.
        missing = isinstance(error, FileNotFoundError) or "NOT_FOUND" in str(error)
        elsewhere = any(text in str(error) for text in _ELSEWHERE)
        if isinstance(error, PermissionError) or elsewhere or (is_bucket(step) and not missing):
            raise RunError(f"{step}: cannot be read: {reason_of(error)}") from error
        raise DamagedError(step, f"its {' and '.join(items)} cannot be read") from error


def plain_file(step: epath.Path, item: str, pattern: str) -> Any:
    """Returns the content of an item that is one JSON file; None if there is no such item."""
    try:
        with reached(step):
            if not (step / item).exists():
                return None
            texts = [path.read_text() for path in (step / item).glob(pattern)]
        (text,) = texts
        return json.loads(text)
    except (OSError, ValueError) as error:
        raise DamagedError(step, f"its {item}/{pattern} cannot be read") from error


def reason_of(error: Exception) -> str:
    """Returns why Orbax or TensorStore failed, in a few words: the system's reason, if known."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if number := _error_number(error):
        return os.strerror(number)
    text = str(error).strip() or type(error).__name__
    return text.partition("\n")[0][:LONGEST_NAME]


def forget_failures() -> None:
    """Forgets the failures that Orbax has logged; call it before a save."""
    _logged.clear()


def finish(save: Any) -> None:
    """Waits for the response of a save, and raises what made it fail.

    After an error in one of several processes, Orbax waits in it for the others, for many minutes.
    """
    seconds = None if jax.process_count() == 1 else PATIENCE
    while True:
        failed, started = bool(_logged), time.monotonic()
        try:
            save.result(seconds)
            return
        except TimeoutError:
            if failed or seconds is None or time.monotonic() - started < seconds:
                raise


def cause_of(error: Exception) -> Exception:
    """Returns the error that made a save fail: of `error`, what it is chained to, and the log.

    Several threads write a checkpoint. When one fails, the others may find its folder removed, and
    Orbax may raise their error instead. So a full disk goes before everything else, and "No such
    file or directory" after every other error of the system.
    """

    def rank(found: Exception) -> int:
        number = _error_number(found)
        if number in _FULL_DISK:
            return 0
        if isinstance(found, (ExceptionGroup, TimeoutError)):
            return 4
        if found is error and number != errno.ENOENT:
            return 1
        return 3 if number in (None, errno.ENOENT) else 2

    logged = [OSError(number, os.strerror(number)) for number in sorted(_logged - {0})]
    return min([*_chain(error), *logged], key=rank)


def _chain(error: BaseException | None, seen: frozenset[int] = frozenset()) -> Iterator[Exception]:
    """Yields an exception, the members of a group, and all that it was raised from or during."""
    if isinstance(error, Exception) and id(error) not in seen:
        yield error
        members = error.exceptions if isinstance(error, ExceptionGroup) else ()
        for other in (*members, error.__cause__, error.__context__):
            yield from _chain(other, seen | {id(error)})


def _error_number(error: BaseException) -> int | None:
    """Returns the system's error number, from the exception or the text of TensorStore's."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"os_error_code='(\d+)'|\[OS error (\d+)", str(error))
    return int(found[1] or found[2]) if found else None


def _is_orbax(path: str) -> bool:
    return "/orbax/checkpoint/" in path.replace("\\", "/")


def _files(traceback: TracebackType | None) -> list[str]:
    return [frame.f_code.co_filename for frame, _ in walk_tb(traceback)]


def _of_a_thread(args: threading.ExceptHookArgs) -> None:
    if not any(map(_is_orbax, _files(args.exc_traceback))):
        _threads_hook(args)


def _of_a_callback(args: "sys.UnraisableHookArgs") -> None:
    # When a save fails, TensorStore calls back for each of its other files after Orbax has closed
    # the event loop. Such a callback has no object; the loop may be asyncio's or uvloop's.
    if args.object is not None or str(args.exc_value) != "Event loop is closed":
        _unraisable_hook(args)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    # asyncio logs further reads that failed, in addition to the one that Orbax raised.
    late = record.name == "asyncio" and "tensorstore_spec" in record.getMessage()
    hidden = late or _is_orbax(record.pathname)
    if hidden and record.exc_info and record.exc_info[1]:
        _logged.update(_error_number(error) or 0 for error in _chain(record.exc_info[1]))
    return not hidden


@functools.lru_cache(maxsize=16)
def _json(spec: bytes, include_defaults: bool) -> Any:
    return _spec_to_json(pickle.loads(spec), include_defaults)


def _to_json(spec: tensorstore.KvStore.Spec, include_defaults: bool = False) -> Any:
    return copy.deepcopy(_json(pickle.dumps(spec), include_defaults))


# TensorStore (seen in 0.1.76 to 0.1.86) never frees the strings of JSON that it returns. In a save,
# Orbax asks for the same JSON once for each array, and twice for metrics that it only logs.
_spec_to_json = tensorstore.KvStore.Spec.to_json
tensorstore.KvStore.Spec.to_json = _to_json  # type: ignore[method-assign]
tensorstore_utils.get_tensorstore_raw_bytes = lambda *_, **__: 0
# Orbax logs through absl, also from its own threads.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).addFilter(_is_not_of_orbax)
warnings.filterwarnings("ignore", module=r"orbax\.checkpoint\.")
_threads_hook, threading.excepthook = threading.excepthook, _of_a_thread
_unraisable_hook, sys.unraisablehook = sys.unraisablehook, _of_a_callback
