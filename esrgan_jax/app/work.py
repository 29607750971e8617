"""Settings of the page, and the work on one image."""

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esrgan_jax.app.estimate import Estimate
from esrgan_jax.app.image_work import (
    open_within,
    progress_line,
    suffix_for,
    summary,
    upscale_image,
)
from esrgan_jax.app.previews import preview_size, write_preview
from esrgan_jax.app.watched import Watched
from esrgan_jax.batch.jobs import ResultOptions
from esrgan_jax.images.reader import open_image

if TYPE_CHECKING:
    from esrgan_jax.app.runs import Runs

State = dict[str, Any]  # what the page shows, as JSON
Key = tuple[object, ...]


@dataclass(frozen=True)
class Settings:
    """The network and the options of results.

    Attributes:
        make: Returns the upscaler; reads and, if needed, downloads its networks.
        scale: Result size over image size.
        suffix: The format; "" chooses one that fits.
        depth: Bits per channel; None for those of the image.
        quality: 1 to 100 for lossy formats; None chooses a good one.
        lossless: Whether to compress without loss, if the format can.
        key: All settings; equal keys give equal results.
    """

    make: Callable[[], Watched] = field(compare=False)
    scale: float
    suffix: str
    depth: int | None
    quality: int | None
    lossless: bool
    key: Key

    def options(self, suffix: str) -> ResultOptions:
        """Returns the options of a result of that format."""
        return ResultOptions(self.scale, None, suffix, self.depth, self.quality, self.lossless)


class Work:
    """Upscales one image in a thread and tracks its progress."""

    def __init__(
        self,
        runs: "Runs",
        browser: str,
        key: str,
        upscaler: Watched,
        settings: Settings,
        stop: threading.Event,
        item: State,
    ):
        self.runs, self.browser, self.key = runs, browser, key
        self.upscaler, self.settings, self.stop, self.item = upscaler, settings, stop, item
        self.estimate: Estimate | None = None
        self.total, self.start = 0, time.monotonic()
        self.shown: list[str] = []  # keys of previews that are needed until it ends
        self.result: State = {}

    def update(self, state: State, count: str) -> None:
        """Writes the progress into the page's state, after `count`, such as "Image 1 of 2: "."""
        if self.estimate is None:
            return
        share = self.estimate.share()
        self.item["fraction"] = round(share, 3)
        seconds = time.monotonic() - self.start
        state["said"] = count + progress_line(share * self.total, self.total, seconds)

    def do(self) -> None:
        """Upscales the image and sets `result`."""
        try:
            self._do()
        finally:
            self.runs.files.release(self.shown)
            self.runs.working.release()

    def _do(self) -> None:
        runs, files, settings = self.runs, self.runs.files, self.settings
        source = files.path(self.browser, self.key)
        image = open_within(source, runs.limits)
        options = settings.options(suffix_for(settings.suffix, image))
        size = preview_size(*options.result_size(image.height, image.width, self.upscaler))
        folder = files.place("result").parent
        kind = (self.upscaler.name, settings.key[-1])
        pixels = image.height * image.width * image.frames

        def progress(done: int, total: int) -> None:
            if self.estimate is None:
                self.start, self.total = time.monotonic(), total
                self.estimate = runs.rates.estimate(
                    kind, self.upscaler, image.height * image.frames, image.width
                )
            self.estimate.report(done / max(total, 1))

        try:
            before = write_preview(image, files.place("before.jpg"), size)
            before_key = files.add(self.browser, before)
            self.item |= {"before": files.url(before_key), "size": [size[1], size[0]]}
            target, notes = upscale_image(
                self.upscaler,
                image,
                source,
                folder,
                options,
                runs.limits,
                progress=progress,
                part=self._part,
                stop=self.stop,
            )
            seconds = time.monotonic() - self.start
            runs.rates.learn(kind, pixels, seconds)
            result = open_image(target)
            after = write_preview(result, files.place("after.jpg"), size)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        keys = [before_key, files.add(self.browser, after), files.add(self.browser, target)]
        files.release(runs.made.get(self.key, ((), []))[1])
        runs.made[self.key] = settings.key, keys
        self.result = {
            "state": "done",
            "after": files.url(keys[1]),
            "key": keys[2],
            "url": files.url(keys[2]),
            "name": target.name,
            "megabytes": round(target.stat().st_size / 10**6, 2),
            "line": summary(image, result, seconds),
            "pixels": f"{result.width}×{result.height}",
            "notes": notes,
        }

    def _part(self, top: float, height: float, path: Path) -> None:
        place = self.runs.files.place(path.name)
        path.replace(place)
        key = self.runs.files.add(self.browser, place)
        self.shown.append(key)
        self.item["parts"].append([round(top, 5), round(height, 5), self.runs.files.url(key)])
