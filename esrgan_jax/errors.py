"""User-facing errors and exit codes: 2 for wrong input, 1 for a failed run, those of signals."""

import difflib
import io
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import NoReturn

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
LONGEST_NAME = 200  # characters; names in a damaged or hostile file may be of any length
# Control characters, and those that change the direction of text.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class InputError(ValueError):
    """An argument or a file cannot be used. The message says what, where and what to do."""


class RunError(RuntimeError):
    """A run could not continue. The message says why, and what was saved."""


def signal_code(number: int, requeue: bool = False) -> int:
    """Returns the exit code after a signal: 128 + number; TRY_AGAIN for SIGTERM if `requeue`."""
    return TRY_AGAIN if requeue and number == signal.SIGTERM else 128 + number


def is_of_signal(code: int) -> bool:
    """Returns whether `signal_code` has made an exit code."""
    return code > 128 or code == TRY_AGAIN


def missing(what: str, package: str, requirement: str) -> InputError:
    """Returns the error for an optional package that is not installed.

    Args:
        what: What needs the package, in the plural: "videos".
        package: The package's name.
        requirement: The requirement for pip, such as "av<20", not an extra of this project: extras
            can only be installed from its own folder.
    """
    return InputError(f"{what} need {package}, which is not installed: pip install '{requirement}'")


def listed(names: Sequence[str], most: int = 6) -> str:
    """Returns the first of many names for a message: "a, b, c and 4 more"."""
    shown = ", ".join(name[:LONGEST_NAME] for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def did_you_mean(name: str, names: Iterable[str], least: float = 0.6) -> str:
    """Returns " Did you mean X?" with the name most similar to `name`, or "" if none is similar.

    Args:
        name: The name to compare.
        names: The names to choose from.
        least: The lowest similarity; equal names have 1.
    """
    near = difflib.get_close_matches(name, list(names), 1, least)
    return f" Did you mean {near[0]}?" if near else ""


def printable(line: str) -> str:
    """Returns a line for a terminal, with control characters escaped."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command's `main` and exits with its code (None is 0).

    The two errors above are printed on stderr. Any other exception is a bug and keeps its
    traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names can be any bytes
            stream.reconfigure(errors="backslashreplace")
    try:
        with _no_interrupt_is_lost():
            sys.exit(main())
    except InputError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(2)
    except RunError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


@contextmanager
def _no_interrupt_is_lost() -> Generator[None]:
    """Raises KeyboardInterrupt again where Python has dropped it.

    Python prints and drops whatever is raised in a finalizer or in a callback of its garbage
    collector, and JAX has such a callback: about one in 500 interrupts was lost there.
    """
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
        yield
        return
    hook = sys.unraisablehook

    def raise_again(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # when the callback has ended
        else:
            hook(dropped)

    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        signal.signal(signal.SIGALRM, handler)
