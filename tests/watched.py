"""Reads weight files that may be hostile, and asserts that reading them does no harm."""

import codecs
import os
import sys
import tempfile
import time
import tracemalloc
import unicodedata  # noqa: F401  (the parser imports it on the first "\\N{")
from pathlib import Path

from esrgan_jax.errors import InputError
from esrgan_jax.interop import discriminator_names, rrdb_names, unet_names, vgg_names
from esrgan_jax.interop.weight_file import read_tensors

SECONDS = 5.0
MEMORY = 33 * 2**20  # on top of twice the file's size; `mapped_file.Stream` allows 32 MiB
# Audit events of running code and of other actions that a reader never takes.
FORBIDDEN = (
    *("exec", "import", "code.", "marshal.", "pickle.", "shelve.", "ctypes.", "gc.", "sys.set"),
    *("os.", "subprocess.", "socket.", "shutil.", "pty.", "webbrowser.", "urllib.", "http."),
)
HARMLESS = ("os.putenv", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

TEMPORARY = tempfile.gettempdir()  # inside an audit hook this call would deadlock
_watching = False
_seen: list[str] = []


def _audit(event: str, arguments: tuple) -> None:
    if not _watching:
        return
    if event == "open":
        path, _, flags = arguments
        temporary = isinstance(path, str) and path.startswith(TEMPORARY)
        if flags & WRITING and not temporary:
            _seen.append(f"open {path!r:.100} to write")
    elif event.startswith(FORBIDDEN) and event not in HARMLESS:
        _seen.append(f"{event} {arguments!r:.100}")


for _codec in ("ascii", "latin-1", "utf-8", "cp437", "raw_unicode_escape", "unicode_escape"):
    codecs.lookup(_codec)  # pickletools and zipfile import these on first use
sys.addaudithook(_audit)


def read_watched(path: Path) -> str:
    """Reads a file as weights of every network; returns "read" or the message that refuses it.

    Raises:
        AssertionError: Code ran, a file was written, or it took too much time or memory.
        Exception: Any error other than InputError is a bug in the reader.
    """
    global _watching
    _seen.clear()
    start = time.monotonic()
    tracemalloc.start()
    _watching = True
    try:
        tensors = read_tensors(path)
        result = "read"
    except InputError as error:
        tensors, result = {}, str(error)
    finally:
        _watching = False
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    for names in (rrdb_names, discriminator_names, unet_names, vgg_names):
        try:
            _watching = bool(tensors)
            if tensors:
                names.from_torch(tensors, source=str(path))
        except InputError:
            pass
        finally:
            _watching = False
    seconds = time.monotonic() - start
    assert not _seen, _seen
    assert result == "read" or (str(path) in result and len(result) < 2000), result
    assert peak <= 2 * path.stat().st_size + MEMORY, f"{peak:,} bytes of memory"
    assert seconds < SECONDS, f"{seconds:.1f} s"
    return result
