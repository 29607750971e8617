"""Upscales the page's images one after the other and reports progress."""

import copy
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from typing import TypeVar

from jax.errors import JaxRuntimeError

from esrgan_jax.app.estimate import Rates
from esrgan_jax.app.image_work import Limits, without_folders
from esrgan_jax.app.session_files import SessionFiles
from esrgan_jax.app.watched import StoppedByUser, Watched
from esrgan_jax.app.work import Key, Settings, State, Work
from esrgan_jax.errors import InputError, RunError

T = TypeVar("T")
TICK = 0.25  # seconds between reports
STOPPED = "Stopped."
BUG = "this is a bug in the app; the error is printed where the app was started"


class Runs:
    """Upscales for all browsers, one image at a time.

    Args:
        files: Images and results.
        limits: Largest sizes.
    """

    def __init__(self, files: SessionFiles, limits: Limits):
        self.files, self.limits = files, limits
        self.rates = Rates()
        self.working = threading.Lock()
        self.stops: dict[str, threading.Event] = {}  # {session: its stop event}
        self.made: dict[str, tuple[Key, list[str]]] = {}  # {image: (settings, files)}

    def stop(self, session: str) -> None:
        """Stops the run of a page after the current tile."""
        if stop := self.stops.get(session):
            stop.set()

    def run(
        self, session: str, browser: str, keys: Sequence[str], settings: Settings
    ) -> Iterator[State]:
        """Upscales images and yields the state to show, repeatedly.

        Args:
            session: The page; its earlier run is stopped.
            browser: The browser that uploaded the images.
            keys: Keys of the images. Those that have a result with these settings are skipped.
            settings: The network and the options of the results.
        """
        self.stop(session)
        stop = self.stops[session] = threading.Event()
        chosen = [key for key in keys if not self._has_result(browser, key, settings)]
        items: dict[str, State] = {key: {"state": "waiting"} for key in chosen}
        state: State = {"busy": True, "said": "Reading the network …", "items": items}
        try:
            if not chosen:
                said = "Already done with these settings: change one, or add an image."
                yield {"busy": False, "said": said, "items": {}}
                return
            upscaler = yield from self._run_in_thread(settings.make, stop, state)
            for number, key in enumerate(chosen):
                count = f"Image {number + 1} of {len(chosen)}: " * (len(chosen) > 1)
                yield from self._image(browser, key, upscaler, settings, stop, state, count)
            state |= {"busy": False, "said": self._final_line(items)}
        except StoppedByUser:
            state |= {"busy": False, "said": STOPPED}
        except Exception as error:
            state |= {"busy": False, "said": self._message(error), "problem": True}
        finally:
            stop.set()
            if self.stops.get(session) is stop:  # not the next run's
                del self.stops[session]
        for key, item in list(items.items()):
            if item["state"] in ("waiting", "working"):
                items[key] = {"state": "stopped"}
        yield copy.deepcopy(state)

    def _has_result(self, browser: str, key: str, settings: Settings) -> bool:
        self.files.path(browser, key)  # InputError if it is not the browser's
        made = self.made.get(key)
        return made is not None and made[0] == settings.key and made[1][-1] in self.files.files

    def _final_line(self, items: dict[str, State]) -> str:
        failed = sum(item["state"] == "failed" for item in items.values())
        if len(items) == 1:
            (item,) = items.values()
            return item["error"] if failed else item["line"]
        done = f"{len(items) - failed} of {len(items)} images are done."
        return f"{done} The list says what is wrong with the others." if failed else done

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
            state["said"] = f"{count}waiting for another image in this app …"
            yield copy.deepcopy(state)
            if stop.is_set():
                raise StoppedByUser
        work = Work(self, browser, key, upscaler, settings, stop, item)
        state["said"] = f"{count}reading the image …"
        try:
            yield from self._run_in_thread(work.do, stop, state, lambda: work.update(state, count))
            item |= work.result
            item["parts"] = []
            item.pop("fraction")
        except StoppedByUser:
            raise
        except Exception as error:
            state["items"][key] = {"state": "failed", "error": self._message(error)}

    def _run_in_thread(
        self,
        work: Callable[[], T],
        stop: threading.Event,
        state: State,
        update: Callable[[], None] = lambda: None,
    ) -> Generator[State, None, T]:
        """Runs `work` in a thread, yields the state meanwhile, and returns the result.

        Raises `StoppedByUser` as soon as `stop` is set.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        last: State = {}
        while not future.done():
            update()
            if state != last:
                last = copy.deepcopy(state)
                yield last
            time.sleep(TICK / 5)
            if stop.is_set():
                raise StoppedByUser
        return future.result()

    def _message(self, error: BaseException) -> str:
        if isinstance(error, InputError | RunError):
            return without_folders(error, self.files.folder)
        if isinstance(error, JaxRuntimeError | MemoryError):
            first = str(error).partition("\n")[0] or "out of memory"
            return f"{first} (smaller tiles, under More, need less memory)"
        traceback.print_exception(error)
        return BUG
