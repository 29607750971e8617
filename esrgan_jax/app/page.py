"""The page: connects its controls with the functions that they call."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from esrgan_jax.app import layout
from esrgan_jax.app.guard import browser_of
from esrgan_jax.app.image_work import Limits, plainly
from esrgan_jax.app.intake import Intake
from esrgan_jax.app.networks import NONE, Networks, make_upscaler
from esrgan_jax.app.runs import Runs
from esrgan_jax.app.session_files import SessionFiles
from esrgan_jax.app.work import Settings, State
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.output_formats import FORMATS

WAITING = 16  # events in the queue
NO_IMAGE = "There is no image yet: drop one first."


class Page:
    """The page: `blocks` is what Gradio serves, `routes` what is served beside it.

    Args:
        models: To choose from, beside the zoo's; the first is chosen at first.
        psnr_model: The PSNR network, if any, that they are mixed with when they are chosen.
        limits: What is refused.
        folder: For what is uploaded and made.

    Raises:
        InputError: The first model cannot be read.
    """

    def __init__(self, models: Sequence[str], psnr_model: str | None, limits: Limits, folder: Path):
        self.limits = limits
        self.networks = Networks(models, psnr_model)
        self.files = SessionFiles(folder)
        self.intake = Intake(self.files, limits)
        self.runs = Runs(self.files, limits)
        self.routes = self.intake.routes()
        first = self.networks.first
        with gr.Blocks(title=layout.TITLE, analytics_enabled=False) as self.blocks:
            self.controls = layout.create(
                self.networks.choices({}),
                first,
                self.networks.partner(first),
                *_size(self.networks.scale(first, {})),
                limits.megabytes,
            )
            self._wire()
        self.blocks.queue(max_size=WAITING)

    def _wire(self) -> None:
        c, told = self.controls, self.controls.told
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        chosen = [c.model, c.psnr, c.alpha, c.size, c.own_size, told]
        c.size.change(own_size, c.size, c.own_size, **quiet)
        c.model.input(self.choose, c.model, chosen, **quiet)
        c.psnr.change(mixing, c.psnr, c.alpha, **quiet)
        c.images.suggested(self.suggest, None, chosen, **quiet)
        c.images.weighed(self.add_weights, [c.model, c.psnr], chosen, **quiet)
        for button, name in ((c.own, "model"), (c.own_psnr, "psnr")):
            js = f"() => document.dispatchEvent(new CustomEvent('weights', {{detail: '{name}'}}))"
            button.click(None, js=js, **quiet)
        settings = {c.model, c.psnr, c.alpha, c.size, c.own_size, c.strength, c.color, c.ensemble}
        settings |= {c.seamless, c.tile, c.format, c.depth, c.quality, c.lossless, c.images}
        many = {"concurrency_limit": None, **quiet}  # `Runs` has one image done at a time
        c.go.click(self.upscale, settings, told, trigger_mode="once", **many)
        c.alpha.release(self.mix_anew, settings, told, trigger_mode="always_last", **many)
        c.stop.click(self.stop, queue=False, **quiet)
        self.blocks.unload(self.stop)

    def upscale(self, values: dict[Any, Any], request: gr.Request) -> Iterator[State]:
        """All images that are not made so yet."""
        keys = values[self.controls.images].get("keys", [])
        if not keys:
            yield {"busy": False, "said": NO_IMAGE, "problem": True, "items": {}}
            return
        yield from self._run(keys, values, request)

    def mix_anew(self, values: dict[Any, Any], request: gr.Request) -> Iterator[State]:
        """The image that is shown, if there is a result of it."""
        shown = values[self.controls.images].get("shown")
        if shown in self.runs.made:
            yield from self._run([shown], values, request)

    def _run(self, keys: list[str], values: dict[Any, Any], request: gr.Request) -> Iterator[State]:
        browser = browser_of(request.headers)
        try:
            settings = self._settings(values, browser)
            yield from self.runs.run(str(request.session_hash), browser, keys, settings)
        except InputError as error:
            yield _problem(plainly(error, self.files.folder))

    def _settings(self, values: dict[Any, Any], browser: str) -> Settings:
        c, uploaded = self.controls, self.intake.uploaded(browser)
        names = [values[c.model], *(n for n in [values[c.psnr]] if n != NONE)]
        models = [self.networks.model(name, uploaded) for name in names]
        alpha = float(values[c.alpha])
        options: dict[str, Any] = {
            "tile": values[c.tile] or None,
            "seamless": values[c.seamless] or None,
            "strength": float(values[c.strength]),
            "color": "keep" if values[c.color] else None,
            "ensemble": bool(values[c.ensemble]),
        }
        scale = values[c.own_size] if values[c.size] == "own" else values[c.size]
        suffix, quality = values[c.format], int(values[c.quality] or 0) or None
        lossy = suffix in FORMATS and FORMATS[suffix].lossy
        depth, lossless = values[c.depth] or None, bool(values[c.lossless])
        kept = (suffix, quality, depth, lossless, float(scale or 0))
        return Settings(
            lambda: make_upscaler(*models, alpha=alpha, **options),
            float(scale or 0),
            suffix,
            depth,
            quality if lossy else None,
            lossless if suffix in ("", ".webp", ".avif") else False,
            (*models, alpha, *kept, tuple(options.values())),
        )

    def choose(self, model: str, request: gr.Request) -> tuple[Any, ...]:
        """What goes with a network that was chosen: its partner and its size."""
        uploaded = self.intake.uploaded(browser_of(request.headers))
        psnr = self.networks.partner(model)
        try:
            size = _size(self.networks.scale(model, uploaded))
        except (InputError, RunError) as error:
            return *(gr.skip(),) * 5, _problem(plainly(error, self.files.folder))
        return gr.update(value=model), psnr, mixing(psnr), *_sizes(*size), gr.skip()

    def suggest(self, event: gr.EventData, request: gr.Request) -> tuple[Any, ...]:
        """The network that the page suggested for an image."""
        return self.choose(str(_data(event).get("network")), request)

    def add_weights(
        self, model: str, psnr: str, event: gr.EventData, request: gr.Request
    ) -> tuple[Any, ...]:
        """A weight file was uploaded: it is chosen at once."""
        uploaded = self.intake.uploaded(browser_of(request.headers))
        key, place = str(_data(event).get("network")), _data(event).get("place")
        if key not in uploaded:
            return *(gr.skip(),) * 5, _problem("the file is gone: upload it again")
        shown = self.networks.choices({k: path.name for k, path in uploaded.items()})
        sizes: Sequence[Any] = (gr.skip(), gr.skip())
        if place == "model":
            model, psnr = key, self.networks.partner(key)
            sizes = _sizes(*_size(self.networks.scale(key, uploaded)))
        else:
            psnr = key
        return (
            gr.update(choices=shown, value=model),
            gr.update(choices=[("none", NONE), *shown], value=psnr),
            mixing(psnr),
            *sizes,
            gr.skip(),
        )

    def stop(self, request: gr.Request) -> None:
        """Stop was pressed, or the page was left."""
        self.runs.stop(str(request.session_hash))


def _size(scale: int) -> tuple[str, float]:
    """The choice of size that is a network's own."""
    return (str(scale), scale) if scale in (2, 4) else ("own", scale or 4)


def _sizes(size: str, own: float) -> tuple[Any, Any]:
    return gr.update(value=size), gr.update(value=own, visible=size == "own")


def own_size(size: str) -> Any:
    """How many times can be said where the size is one's own."""
    return gr.update(visible=size == "own")


def mixing(psnr: str) -> Any:
    """Alpha can be moved where there are two networks."""
    mixed = psnr != NONE
    return gr.update(interactive=mixed, info=layout.PAIR if mixed else layout.NO_PAIR)


def _data(event: gr.EventData) -> dict[str, Any]:
    """What the page's script sent with an event, for which Gradio has no public name."""
    return event._data  # pyright: ignore[reportPrivateUsage]


def _problem(sentence: str) -> State:
    return {"busy": False, "said": sentence, "problem": True, "items": {}}
