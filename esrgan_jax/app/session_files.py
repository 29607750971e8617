"""The page's files: only the browser that uploaded or made a file can fetch it."""

import io
import secrets
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from esrgan_jax.app.guard import browser_of
from esrgan_jax.errors import InputError

HOURS = 6  # how long files are kept; the app deletes all when it ends
DELETE_AFTER = 60  # seconds in which the browser may still fetch a released file
CHUNK = 2**20
GONE = "there is no such file: it was deleted, or belongs to another browser"


@dataclass
class _File:
    browser: str
    path: Path
    until: float


class SessionFiles:
    """Files by keys that cannot be guessed, each owned by one browser.

    Args:
        folder: Their folder. Each is in a subfolder, so that names need not differ.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.Lock()
        self.files: dict[str, _File] = {}

    def place(self, name: str) -> Path:
        """Returns a path of that name for a new file, in a new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder), name)

    def add(self, browser: str, path: Path) -> str:
        """Adds a file at a path of `place` and returns its key."""
        self._delete_old()
        with self.lock:
            key = secrets.token_urlsafe(16)
            self.files[key] = _File(browser, path, time.monotonic() + 3600 * HOURS)
            return key

    def path(self, browser: str, key: str) -> Path:
        """Returns the path of a browser's file; InputError if it has no such file."""
        file = self.files.get(key)
        if file is None or not browser or not secrets.compare_digest(file.browser, browser):
            raise InputError(GONE)
        return file.path

    def url(self, key: str) -> str:
        """Returns the URL of a file, relative to the page."""
        return f"files/{key}/{quote(self.files[key].path.name)}"

    def remove(self, browser: str, keys: Iterable[str]) -> None:
        """Deletes files, if they are the browser's."""
        for key in keys:
            file = self.files.get(key)
            if file is not None and file.browser == browser:
                self._delete(key)

    def release(self, keys: Iterable[str]) -> None:
        """Deletes files after DELETE_AFTER seconds: the page does not show them any more."""
        for key in keys:
            if file := self.files.get(key):
                file.until = min(file.until, time.monotonic() + DELETE_AFTER)

    def _delete_old(self) -> None:
        now = time.monotonic()
        for key in [key for key, file in list(self.files.items()) if file.until < now]:
            self._delete(key)

    def _delete(self, key: str) -> None:
        with self.lock:
            file = self.files.pop(key, None)
        if file is not None:
            shutil.rmtree(file.path.parent, ignore_errors=True)

    async def fetch(self, request: Request) -> Response:
        """GET /files/{key}/{name}: returns a file."""
        try:
            path = self.path(browser_of(request.headers), request.path_params["key"])
        except InputError as error:
            return PlainTextResponse(str(error), 404)
        if not path.is_file():
            return PlainTextResponse(GONE, 404)
        return FileResponse(path, headers={"cache-control": "private, max-age=3600"})

    async def fetch_all(self, request: Request) -> Response:
        """GET /results.zip?key=…&key=…: returns several files in a ZIP archive."""
        browser = browser_of(request.headers)
        try:
            paths = [self.path(browser, key) for key in request.query_params.getlist("key")]
        except InputError as error:
            return PlainTextResponse(str(error), 404)
        headers = {"content-disposition": 'attachment; filename="upscaled.zip"'}
        return StreamingResponse(zipped(paths), headers=headers, media_type="application/zip")


class _Pipe(io.RawIOBase):
    """A write-only file that hands out what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data, /) -> int:  # type: ignore[override]
        self.written.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self.written = b"".join(self.written), []
        return taken


def zipped(paths: Iterable[Path]) -> Iterator[bytes]:
    """Yields the bytes of an uncompressed ZIP archive of files, with unique names."""
    pipe, seen = _Pipe(), set()
    with zipfile.ZipFile(pipe, "w") as archive:  # type: ignore[arg-type]
        for path in paths:
            name, number = path.name, 1
            while name.lower() in seen:
                number += 1
                name = f"{path.stem}-{number}{path.suffix}"
            seen.add(name.lower())
            about = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            with archive.open(about, "w", force_zip64=True) as target, path.open("rb") as source:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    yield pipe.take()
    yield pipe.take()
