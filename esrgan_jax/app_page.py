"""The page of the app, in Gradio: its controls, and what happens when they are used."""

import html
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from esrgan_jax import app_model
from esrgan_jax.app_errors import explained
from esrgan_jax.app_model import Limits
from esrgan_jax.errors import RunError
from esrgan_jax.mixture import ALPHA
from esrgan_jax.picture import SUFFIXES

CLEANING = (600, 6 * 3600)  # seconds: how often, and at which age files are deleted
WAITING = 16  # jobs in the queue
FORMATS = {"PNG": ".png", "TIFF": ".tif", "WebP": ".webp", "AVIF": ".avif", "JPEG": ".jpg"}
TILES = (64, 128, 256, 512)
NONE = "none"
Partners = Mapping[str, str | None]
HIDDEN = gr.update(value=None, visible=False)
TITLE = "ESRGAN in JAX"
WELCOME = f"""# {TITLE}
Enlarges pictures on the machine that serves this page; nothing is sent elsewhere."""
HINT = "Drop a picture, choose a network, press Upscale."


class Page:
    """The page: `blocks` is what Gradio serves.

    Args:
        models: To choose from, beside the zoo's.
        partners: The PSNR network, if any, that a network is mixed with when it is chosen. The
            first network is chosen at first.
        limits: What is refused.
        folder: For what is uploaded and made.
    """

    def __init__(self, models: Sequence[str], partners: Partners, limits: Limits, folder: Path):
        self.given = list(models)
        self.partners = partners
        self.limits, self.folder = limits, folder
        self.stops: dict[str, threading.Event] = {}  # of each session's job
        self.stopped: set[str] = set()  # sessions whose user pressed Stop
        # A stopped job ends after its tile, when the queue has begun the next one already.
        self.one_job = threading.Lock()
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=CLEANING) as self.blocks:
            self.uploads, self.made = gr.State([]), gr.State([])
            gr.Markdown(WELCOME)
            with gr.Row():
                with gr.Column(min_width=320):
                    self._networks(*next(iter(partners.items())))
                    self._options()
                with gr.Column(scale=2, min_width=320):
                    self._results()
            self._wire()
        self.blocks.queue(max_size=WAITING)

    def _networks(self, model: str, psnr_model: str | None) -> None:
        offered = app_model.choices(self.given)
        kinds = ["image", *SUFFIXES]
        self.picture = gr.File(label="Picture", file_types=kinds, height=140, elem_id="picture")
        with gr.Group():
            self.model = gr.Dropdown(offered, value=model, label="Network")
            self.own = gr.UploadButton("Use a weight file of your own", size="sm", elem_id="own")
        with gr.Group():
            self.psnr = gr.Dropdown(
                [("none", NONE), *offered],
                value=psnr_model or NONE,
                label="Mix with a PSNR network",
                info="The one that the network was trained from",
            )
            self.own_psnr = gr.UploadButton(
                "Use a PSNR weight file of your own", size="sm", elem_id="own-psnr"
            )
            self.alpha = gr.Slider(
                *(0, 1, ALPHA),
                step=0.01,
                label="Alpha",
                info="0: the PSNR network, faithful and smooth; 1: the network, with texture",
                interactive=psnr_model is not None,
                elem_id="alpha",
            )

    def _options(self) -> None:
        self.scale = gr.Number(
            0, label="Enlargement", info="How many times; 0 for the network's own", minimum=0
        )
        self.format = gr.Dropdown(list(FORMATS), value="PNG", label="Format of the download")
        with gr.Accordion("More options", open=False):
            self.tile = gr.Dropdown(
                [("automatic", 0), *((f"{side} pixels", side) for side in TILES)],
                value=0,
                label="Tiles",
                info="Smaller ones need less memory, tell their progress and stop sooner",
            )
            self.seamless = gr.Dropdown(
                [("no", ""), ("wraps around", "wrap"), ("is mirrored", "mirror")],
                value="",
                label="Seamless texture",
            )
            self.strength = gr.Slider(
                *(0, 1, 1),
                step=0.01,
                label="Strength",
                info="1: the network's result; 0: bicubic enlargement",
            )
            self.color = gr.Checkbox(label="Keep the picture's colours")
            self.ensemble = gr.Checkbox(label="Mean of eight versions: a bit better, slower")

    def _results(self) -> None:
        with gr.Row():
            self.go = gr.Button("Upscale", variant="primary", elem_id="go")
            self.stop = gr.Button("Stop", scale=0, min_width=100, elem_id="stop")
        self.shown = gr.Image(
            label="Picture", visible=False, interactive=False, type="filepath", buttons=[]
        )
        self.slider = gr.ImageSlider(
            label="Before and after (preview)",
            visible=False,
            interactive=False,
            type="filepath",
            buttons=["fullscreen"],
            max_height=640,
            elem_id="slider",
        )
        self.said = gr.HTML(HINT, elem_id="said")
        self.download = gr.DownloadButton("Download", visible=False, elem_id="download")

    def _wire(self) -> None:
        private: dict[str, Any] = {"api_visibility": "private"}
        quiet = {"show_progress": "hidden", **private}  # or an error covers the controls
        networks = [self.uploads, self.model, self.psnr]
        for button, add in ((self.own, self.add_network), (self.own_psnr, self.add_psnr)):
            button.upload(add, [button, *networks], [*networks, self.alpha], **quiet)
        self.model.input(self.partner, [self.model, self.psnr], self.psnr, **quiet)
        self.psnr.change(mixing, self.psnr, self.alpha, **quiet)
        networks += [self.alpha, self.scale, self.format, self.tile, self.seamless]
        further = (self.picture, self.strength, self.color, self.ensemble, self.made)
        job: dict[str, Any] = {
            "fn": self.upscale,
            "inputs": {*networks, *further},
            "outputs": [self.shown, self.slider, self.said, self.download, self.made],
            "concurrency_id": "upscale",
            "concurrency_limit": 1,
            "show_progress_on": [self.shown, self.slider],
            **private,
        }
        jobs: list[Any] = [
            self.go.click(**job, trigger_mode="once"),
            self.alpha.release(**job, trigger_mode="always_last"),
        ]
        self.stop.click(self.stop_job, cancels=jobs, queue=False, **private)
        # Upscale takes no click before its cancelled job has failed: "Stopped." waits for that.
        for each in jobs:
            each.failure(self.say_stopped, outputs=self.said, queue=False, **quiet)
        results = [self.shown, self.slider, self.download, self.said]
        self.picture.change(self.show_picture, self.picture, results, cancels=jobs, **private)
        self.blocks.unload(self.stop_abandoned)

    def show_picture(self, path: str | None, request: gr.Request) -> tuple[Any, ...]:
        """What was uploaded, in place of any earlier result."""
        self.stop_abandoned(request)
        if path is None:
            return HIDDEN, HIDDEN, HIDDEN, HINT
        with explained(self.folder):
            picture = app_model.open_within(Path(path), self.limits)
            size = app_model.preview_size(picture.height, picture.width)
            target = Path(tempfile.mkdtemp(dir=self.folder), "picture.webp")
            app_model.write_preview(picture, target, size)
        line = f"{Path(path).name}: {picture.width}×{picture.height} pixels"
        return gr.update(value=str(target), visible=True), HIDDEN, HIDDEN, html.escape(line)

    def partner(self, model: str, psnr: str) -> str:
        """The PSNR network for a network that was chosen, in the place of another."""
        if partner := self.partners.get(model):
            return partner
        # Other networks seldom mix with the partner of one; what the user chose, stays.
        return NONE if psnr in self.partners.values() else psnr

    def add_network(self, path: str, uploads: list[str], model: str, psnr: str) -> tuple[Any, ...]:
        return self._add(path, uploads, path, self.partner(path, psnr))

    def add_psnr(self, path: str, uploads: list[str], model: str, psnr: str) -> tuple[Any, ...]:
        return self._add(path, uploads, model, path)

    def _add(self, path: str, uploads: list[str], model: str, psnr: str) -> tuple[Any, ...]:
        with explained(self.folder):
            app_model.check_weights(Path(path))
        uploads = list(dict.fromkeys([*uploads, path]))
        shown = app_model.choices(self.given, uploads)
        return (
            uploads,
            gr.update(choices=shown, value=model),
            gr.update(choices=[("none", NONE), *shown], value=psnr),
            mixing(psnr),
        )

    def upscale(
        self,
        values: dict[Any, Any],
        event: gr.EventData,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  (Gradio's way to ask for it)
    ) -> dict[Any, Any]:
        if values[self.picture] is None:
            if event.target is self.alpha:
                return {self.said: gr.skip()}
            raise gr.Error("There is no picture yet: drop one first.", print_exception=False)
        session, stop = str(request.session_hash), threading.Event()
        self.stopped.discard(session)
        made = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            self.stops[session] = stop
            with self.one_job, explained(self.folder):
                return self._result(values, made, stop, progress)
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        finally:
            if self.stops.get(session) is stop:  # and not the next job's
                del self.stops[session]

    def _result(
        self, values: dict[Any, Any], made: Path, stop: threading.Event, progress: gr.Progress
    ) -> dict[Any, Any]:
        def report(done: int, total: int) -> None:
            if stop.is_set():
                raise RunError("stopped")
            line = app_model.progress_line(done, total, time.monotonic() - start)
            progress(done / total, desc=line)

        progress(0, desc="reading the network")
        names = [values[self.model], *(n for n in [values[self.psnr]] if n != NONE)]
        upscaler = app_model.make_upscaler(
            *(app_model.allowed(name, self.given, values[self.uploads]) for name in names),
            alpha=float(values[self.alpha]),
            tile=values[self.tile] or None,
            seamless=values[self.seamless] or None,
            strength=float(values[self.strength]),
            color="keep" if values[self.color] else None,
            ensemble=values[self.ensemble],
        )
        source = app_model.open_within(Path(values[self.picture]), self.limits)
        start = time.monotonic()
        file = app_model.upscale_file(
            upscaler,
            *(source, made, self.limits),
            suffix=FORMATS[values[self.format]],
            scale=values[self.scale] or None,
            progress=report,
        )
        seconds = time.monotonic() - start
        progress(1, desc="making the preview")
        result = app_model.open_picture(file)
        size = app_model.preview_size(result.height, result.width)
        pair = [
            str(app_model.write_preview(picture, made / f"{name}.webp", size))
            for name, picture in (("before", source), ("after", result))
        ]
        for old in values[self.made][:-1]:  # the newest is what the page shows yet
            shutil.rmtree(old, ignore_errors=True)
        label = f"Download {file.name} ({file.stat().st_size / app_model.MEGA:.1f} MB)"
        return {
            self.shown: gr.update(visible=False),
            self.slider: gr.update(value=tuple(pair), visible=True),
            self.said: html.escape(app_model.summary(source, result, seconds)),
            self.download: gr.update(value=str(file), label=label, visible=True),
            self.made: [*values[self.made][-1:], str(made)],
        }

    def stop_job(self, request: gr.Request) -> None:
        self.stop_abandoned(request)
        self.stopped.add(str(request.session_hash))

    def say_stopped(self, request: gr.Request) -> Any:
        stopped = str(request.session_hash) in self.stopped
        self.stopped.discard(str(request.session_hash))
        return "Stopped." if stopped else gr.skip()

    def stop_abandoned(self, request: gr.Request) -> None:
        """Ends the job of a page, after the tile that it is at: nobody waits for it any more."""
        self.stopped.discard(str(request.session_hash))
        if stop := self.stops.get(str(request.session_hash)):
            stop.set()


def mixing(psnr: str) -> Any:
    """Alpha can be moved where there are two networks."""
    return gr.update(interactive=psnr != NONE)
