"""Connects the page's controls with the functions that they call."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from esrgan_jax.app import layout
from esrgan_jax.app.guard import browser_of
from esrgan_jax.app.image_work import Limits, without_folders
from esrgan_jax.app.intake import Intake
from esrgan_jax.app.networks import LOSSY_NETWORK, NONE, Networks, make_upscaler
from esrgan_jax.app.runs import Runs
from esrgan_jax.app.session_files import SessionFiles
from esrgan_jax.app.work import Settings, State
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.images.output_formats import OUTPUT_FORMATS

QUEUE_LENGTH = 16  # events that may wait
NO_IMAGE = "Add an image first."

Update = dict[str, Any]  # what `gr.update` returns
Values = dict[Any, Any]  # {control: value}


class Page:
    """The page: Gradio serves `blocks`, and `routes` in addition.

    Args:
        models: Networks in addition to the zoo's; the first one is selected at first.
        psnr_model: The PSNR network that they are blended with by default, if any.
        limits: Largest sizes.
        folder: Folder for uploaded files and results.

    Raises:
        InputError: The first model cannot be read.
    """

    def __init__(self, models: Sequence[str], psnr_model: str | None, limits: Limits, folder: Path):
        self.limits = limits
        self.networks = Networks(models, psnr_model)
        self.files = SessionFiles(folder)
        first = self.networks.first
        self.intake = Intake(self.files, limits, hints=first != LOSSY_NETWORK)
        self.runs = Runs(self.files, limits)
        self.routes = self.intake.routes()
        with gr.Blocks(title=layout.TITLE, analytics_enabled=False) as self.blocks:
            self.controls = layout.create(
                self.networks.choices({}),
                first,
                self.networks.partner(first),
                *_size(self.networks.scale(first, {})),
                limits.megabytes,
            )
            self._wire()
        self.blocks.queue(max_size=QUEUE_LENGTH)

    def _wire(self) -> None:
        c, status = self.controls, self.controls.status
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        chosen = [c.model, c.psnr, c.alpha, c.size, c.own_size, status]
        c.size.change(own_size, c.size, c.own_size, **quiet)
        c.model.input(self.choose, c.model, chosen, **quiet)
        c.psnr.change(alpha_update, c.psnr, c.alpha, **quiet)
        c.images.suggested(self.suggest, None, chosen, **quiet)
        c.images.weights_added(self.add_weights, [c.model, c.psnr], chosen, **quiet)
        for button, name in ((c.own, "model"), (c.own_psnr, "psnr")):
            js = f"() => document.dispatchEvent(new CustomEvent('weights', {{detail: '{name}'}}))"
            button.click(None, js=js, **quiet)
        settings = {c.model, c.psnr, c.alpha, c.size, c.own_size, c.strength, c.color, c.ensemble}
        settings |= {c.seamless, c.tile, c.format, c.depth, c.quality, c.lossless, c.images}
        many = {"concurrency_limit": None, **quiet}  # `Runs` upscales one image at a time
        c.go.click(self.upscale, settings, status, trigger_mode="once", **many)
        c.alpha.release(self.blend_again, settings, status, trigger_mode="always_last", **many)
        c.stop.click(self.stop, queue=False, **quiet)
        self.blocks.unload(self.stop)

    def upscale(self, values: Values, request: gr.Request) -> Iterator[State]:
        """Upscales all images that have no result with these settings yet."""
        keys = values[self.controls.images].get("keys", [])
        if not keys:
            yield {"busy": False, "said": NO_IMAGE, "problem": True, "items": {}}
            return
        yield from self._run(keys, values, request)

    def blend_again(self, values: Values, request: gr.Request) -> Iterator[State]:
        """Upscales the image that is shown again, if it has a result."""
        shown = values[self.controls.images].get("shown")
        if shown in self.runs.made:
            yield from self._run([shown], values, request)

    def _run(self, keys: list[str], values: Values, request: gr.Request) -> Iterator[State]:
        browser = browser_of(request.headers)
        try:
            settings = self._settings(values, browser)
            yield from self.runs.run(str(request.session_hash), browser, keys, settings)
        except InputError as error:
            yield _problem(without_folders(error, self.files.folder))

    def _settings(self, values: Values, browser: str) -> Settings:
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
        to = OUTPUT_FORMATS.get(suffix)  # none: each image keeps its own
        lossy = to is not None and to.lossy
        depth, lossless = values[c.depth] or None, bool(values[c.lossless])
        kept = (suffix, quality, depth, lossless, float(scale or 0))
        return Settings(
            lambda: make_upscaler(*models, alpha=alpha, **options),
            float(scale or 0),
            suffix,
            depth,
            quality if lossy else None,
            lossless and (to is None or (to.lossy and to.lossless)),
            (*models, alpha, *kept, tuple(options.values())),
        )

    def choose(self, model: str, request: gr.Request) -> tuple[object, ...]:
        """Returns updates for a chosen network: its PSNR network and its scale."""
        uploaded = self.intake.uploaded(browser_of(request.headers))
        psnr = self.networks.partner(model)
        try:
            size = _size(self.networks.scale(model, uploaded))
        except (InputError, RunError) as error:
            return *(gr.skip(),) * 5, _problem(without_folders(error, self.files.folder))
        return gr.update(value=model), psnr, alpha_update(psnr), *_sizes(*size), gr.skip()

    def suggest(self, event: gr.EventData, request: gr.Request) -> tuple[object, ...]:
        """Chooses the network that the page suggested for an image."""
        return self.choose(str(getattr(event, "network", "")), request)

    def add_weights(
        self, model: str, psnr: str, event: gr.EventData, request: gr.Request
    ) -> tuple[object, ...]:
        """Chooses a weight file that was uploaded."""
        uploaded = self.intake.uploaded(browser_of(request.headers))
        key, place = str(getattr(event, "network", "")), getattr(event, "place", "")
        if key not in uploaded:
            return *(gr.skip(),) * 5, _problem("the file was deleted; upload it again")
        shown = self.networks.choices({k: path.name for k, path in uploaded.items()})
        sizes: Sequence[Update] = (gr.skip(), gr.skip())
        if place == "model":
            model, psnr = key, self.networks.partner(key)
            sizes = _sizes(*_size(self.networks.scale(key, uploaded)))
        else:
            psnr = key
        return (
            gr.update(choices=shown, value=model),
            gr.update(choices=[("none", NONE), *shown], value=psnr),
            alpha_update(psnr),
            *sizes,
            gr.skip(),
        )

    def stop(self, request: gr.Request) -> None:
        """Stops the work of a page, for the Stop button and for pages that were closed."""
        self.runs.stop(str(request.session_hash))


def _size(scale: int) -> tuple[str, float]:
    """Returns the size choice for a network's scale, and the scale for "own"."""
    return (str(scale), scale) if scale in (2, 4) else ("own", scale or 4)


def _sizes(size: str, own: float) -> tuple[Update, Update]:
    return gr.update(value=size), gr.update(value=own, visible=size == "own")


def own_size(size: str) -> Update:
    """Shows the field for the scale if the size is "own"."""
    return gr.update(visible=size == "own")


def alpha_update(psnr: str) -> Update:
    """Enables the alpha slider if there is a PSNR network."""
    blends = psnr != NONE
    return gr.update(interactive=blends, info=layout.PAIR if blends else layout.NO_PAIR)


def _problem(message: str) -> State:
    return {"busy": False, "said": message, "problem": True, "items": {}}
