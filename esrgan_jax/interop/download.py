"""Downloads a file with a progress bar and checks its sha256."""

from pathlib import Path

from esrgan_jax.files import sha256
from esrgan_jax.progress import Progress

TIMEOUT = 30.0  # seconds without a byte from the server
MEGABYTE = 10**6


def download(url: str, target: Path, label: str, size: int, digest: str) -> str:
    """Downloads a file and checks its sha256.

    Args:
        url: The address of the file.
        target: The path to write to; incomplete or wrong after a failure.
        label: The name that the progress bar shows.
        size: The expected number of bytes if the server announces none.
        digest: The expected sha256, or its first digits.

    Returns:
        "" if the file is right, else what went wrong, worded to follow the URL in a sentence.

    Raises:
        OSError: The target cannot be written.
    """
    import pooch
    import requests

    bar = _Bar(label, size)
    downloader = pooch.HTTPDownloader(
        progressbar=bar,  # pyright: ignore[reportArgumentType]  (annotated as bool alone)
        chunk_size=MEGABYTE,
        timeout=TIMEOUT,
        headers={"Accept-Encoding": "identity"},  # progress counts uncompressed bytes
    )
    try:
        downloader(url, str(target), None)
    except requests.RequestException as error:
        return f"could not be downloaded: {_reason(error)}"
    finally:
        bar.close()
    found = sha256(target)
    if found.startswith(digest):
        return ""
    with target.open("rb") as file:
        page = file.read(64).lstrip().startswith(b"<")
    what = "a web page instead of the file, so open it in a browser" if page else "another file"
    return f"sent {what} ({target.stat().st_size:,} bytes of sha256 {found}, expected {digest})"


def _reason(error: Exception) -> str:
    """Returns why a download failed; messages of requests show its internal objects."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if "timed out" in str(error):  # not a requests.Timeout while a body is read
        return f"the server sent nothing for {TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke before the end of the file"
    innermost: BaseException = error
    while (cause := innermost.__cause__ or innermost.__context__) is not None:
        innermost = cause
    return f"no connection ({getattr(innermost, 'strerror', None) or innermost})"


class _Bar:
    """Adapts Progress, counting megabytes, to the interface that pooch's downloader expects."""

    total = 0  # the bytes that the server announces; pooch sets it

    def __init__(self, label: str, size: int):
        self.label, self.size, self.received = label, size, 0
        self.progress: Progress | None = None

    def update(self, count: int) -> None:
        self.received += count
        if self.progress is None:
            megabytes = round((self.total or self.size) / MEGABYTE)
            self.progress = Progress(megabytes, "megabyte", self.label)
        # pooch counts the last, shorter chunk as a full one, and adds the total again at the end.
        done = min(self.received // MEGABYTE, self.progress.total)
        self.progress.update(done - self.progress.count)

    def reset(self) -> None:
        """Does nothing: pooch resets a finished bar to fill it, which `update` has done."""

    def close(self) -> None:
        if self.progress is not None:
            self.progress.__exit__()
            self.progress = None
