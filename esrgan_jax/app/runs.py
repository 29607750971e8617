"""Upscales the images of the page one after the other, and reports progress."""

import copy
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from jax.errors import JaxRuntimeError

from esrgan_jax.app.estimate import Rates
from esrgan_jax.app.image_work import Limits, plainly
from esrgan_jax.app.session_files import SessionFiles
from esrgan_jax.app.watched import Stopped, Watched
from esrgan_jax.app.work import Settings, State, Work
from esrgan_jax.errors import InputError, RunError

T = TypeVar("T")
TICK = 0.25  # seconds between reports
STOPPED = "Stopped."
BUG = "something went wrong that should not: what it was is told where the app was started"


class Runs:
    """Work for all browsers, one image at a time.

    Args:
        files: Images and results.
        limits: What is refused.
    """

    def __init__(self, files: SessionFiles, limits: Limits):
        self.files, self.limits = files, limits
        self.rates = Rates()
        self.working = threading.Lock()
        self.stops: dict[str, threading.Event] = {}  # of each page's run
        # Of each image, its results' keys.
        self.made: dict[str, tuple[tuple[Any, ...], list[str]]] = {}

    def stop(self, session: str) -> None:
        """Ends the run of a page, after the tile that it is at."""
        if stop := self.stops.get(session):
            stop.set()

    def run(
        self, session: str, browser: str, keys: Sequence[str], settings: Settings
    ) -> Iterator[State]:
        """Upscales images and yields what the page shows of it, again and again.

        Args:
            session: The page; an earlier run of it ends.
            browser: Whose images they are.
            keys: Of the images.
            settings: What shall be made of them. Images that were made so are left.
        """
        self.stop(session)
        stop = self.stops[session] = threading.Event()
        chosen = [key for key in keys if not self._is_made(browser, key, settings)]
        items: dict[str, State] = {key: {"state": "waiting"} for key in chosen}
        state: State = {"busy": True, "said": "Reading the network …", "items": items}
        try:
            if not chosen:
                said = "Made so already: choose something else, or add an image."
                yield {"busy": False, "said": said, "items": {}}
                return
            upscaler = yield from self._waited(settings.make, stop, state)
            for number, key in enumerate(chosen):
                count = f"Image {number + 1} of {len(chosen)}: " * (len(chosen) > 1)
                yield from self._image(browser, key, upscaler, settings, stop, state, count)
            state |= {"busy": False, "said": self._finished(items)}
        except Stopped:
            state |= {"busy": False, "said": STOPPED}
        except Exception as error:
            state |= {"busy": False, "said": self._sentence(error), "problem": True}
        finally:
            stop.set()
            if self.stops.get(session) is stop:  # and not the next run's
                del self.stops[session]
        for key, item in list(items.items()):
            if item["state"] in ("waiting", "working"):
                items[key] = {"state": "stopped"}
        yield copy.deepcopy(state)

    def _is_made(self, browser: str, key: str, settings: Settings) -> bool:
        self.files.path(browser, key)  # InputError if it is not the browser's
        made = self.made.get(key)
        return made is not None and made[0] == settings.key and made[1][-1] in self.files.files

    def _finished(self, items: dict[str, State]) -> str:
        failed = sum(item["state"] == "failed" for item in items.values())
        if len(items) == 1:
            (item,) = items.values()
            return item["error"] if failed else item["line"]
        done = f"{len(items) - failed} of {len(items)} images are done."
        return f"{done} What kept the others is said beside them." if failed else done

    def _image(
        self,
        browser: str,
        key: str,
        upscaler: Watched,
        settings: Settings,
        stop: threading.Event,
        state: State,
        count: str,
    ) -> Iterator[State]:
        item: State = {"state": "working", "fraction": 0.0, "parts": []}
        state["items"][key] = item
        while not self.working.acquire(timeout=TICK):
            state["said"] = f"{count}waiting for other work of this app …"
            yield copy.deepcopy(state)
            if stop.is_set():
                raise Stopped
        work = Work(self, browser, key, upscaler, settings, stop, item)
        state["said"] = f"{count}reading the image …"
        try:
            yield from self._waited(work.do, stop, state, lambda: work.tell(state, count))
            item |= work.result
            item["parts"] = []
            item.pop("fraction")
        except Stopped:
            raise
        except Exception as error:
            state["items"][key] = {"state": "failed", "error": self._sentence(error)}

    def _waited(
        self,
        work: Callable[[], T],
        stop: threading.Event,
        state: State,
        tell: Callable[[], None] = lambda: None,
    ):
        """Yields the state while `work` goes on in a thread; its result, or `Stopped` at once."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        last: State = {}
        while not future.done():
            tell()
            if state != last:
                last = copy.deepcopy(state)
                yield last
            time.sleep(TICK / 5)
            if stop.is_set():
                raise Stopped
        return future.result()

    def _sentence(self, error: BaseException) -> str:
        if isinstance(error, InputError | RunError):
            return plainly(error, self.files.folder)
        if isinstance(error, JaxRuntimeError | MemoryError):
            first = str(error).partition("\n")[0] or "the memory does not suffice"
            return f"{first} (smaller tiles, under More, take less memory)"
        traceback.print_exception(error)
        return BUG
