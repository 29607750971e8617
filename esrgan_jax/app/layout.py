"""The controls of the page, in Gradio."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from esrgan_jax.app.intake import SAMPLE_IMAGES
from esrgan_jax.app.networks import NONE
from esrgan_jax.blend import ALPHA
from esrgan_jax.images.image_file import IMAGE_SUFFIXES

HERE = Path(__file__).parent
TITLE = "ESRGAN in JAX"
SIZE_CHOICES = {"2×": "2", "4×": "4", "Other": "own"}
TILES = (64, 128, 256, 512)
FORMAT_CHOICES = {
    "Automatic: PNG, WebP for animations": "",
    "PNG": ".png",
    "TIFF": ".tif",
    "WebP": ".webp",
    "AVIF": ".avif",
    "JPEG": ".jpg",
}
DEPTH_CHOICES = {"same as the image": 0, "8 bits": 8, "16 bits": 16, "32 bits, floating point": 32}
PAIR = "Left: smooth, true to the image. Right: sharp, with invented texture (alpha)"
NO_PAIR = "Needs a PSNR network to blend with: choose one under More"


@dataclass(frozen=True)
class Controls:
    """The page's Gradio components.

    The value of `images` is set by the page's scripts, that of `status` by the server.
    """

    images: Any
    status: Any
    size: Any
    own_size: Any
    alpha: Any
    go: Any
    stop: Any
    model: Any
    own: Any
    psnr: Any
    own_psnr: Any
    strength: Any
    color: Any
    ensemble: Any
    seamless: Any
    tile: Any
    format: Any
    depth: Any
    quality: Any
    lossless: Any


def read_files(*names: str) -> str:
    """Returns the texts of files in this folder, joined."""
    return "\n".join((HERE / name).read_text() for name in names)


def create(
    offered: list[tuple[str, str]], model: str, psnr: str, size: str, own_size: float, limit: float
) -> Controls:
    """Creates the controls, inside `gr.Blocks`.

    Args:
        offered: The networks, as (label, key).
        model: Key of the network that is selected at first.
        psnr: Key of its PSNR network, or NONE.
        size: A value of SIZE_CHOICES.
        own_size: The scale if that is "own".
        limit: Megabytes that a file may have.
    """
    samples = "".join(
        f'<button type="button" class="sample" data-sample="{name}" title="Try it with this '
        f'image: {name}"><img src="samples/{name}" alt="{name}" height="44"></button>'
        for name in SAMPLE_IMAGES
    )
    page = read_files("page.html").replace("SAMPLES", samples)
    page = page.replace("KINDS", ",".join(["image/*", *IMAGE_SUFFIXES]))
    images = gr.HTML(
        {"keys": [], "shown": None},
        html_template=page.replace("TITLE", TITLE),
        js_on_load=read_files("viewer.js", "camera.js", "page.js"),
        apply_default_css=False,
        megabytes=limit,
        elem_id="page",
    )
    with images:
        with gr.Row(elem_id="main"):
            sizes = gr.Radio([*SIZE_CHOICES.items()], value=size, label="Size", elem_id="size")
            times = gr.Number(
                own_size,
                label="Times",
                minimum=0.01,
                visible=size == "own",
                elem_id="own-size",
                min_width=90,
            )
            alpha = gr.Slider(
                *(0, 1, ALPHA),
                step=0.01,
                label="Faithful ↔ detailed",
                info=PAIR if psnr != NONE else NO_PAIR,
                interactive=psnr != NONE,
                elem_id="alpha",
            )
            go = gr.Button("Upscale", variant="primary", elem_id="go")
            stop = gr.Button("Stop", elem_id="stop")
        status = gr.HTML(
            {},
            html_template=read_files("status.html"),
            js_on_load="watch('value', () => document.dispatchEvent("
            "new CustomEvent('status', {detail: props.value})));",
            apply_default_css=False,
            elem_id="status",
        )
        with gr.Accordion("More", open=False, elem_id="more"):
            more = _more(offered, model, psnr)
    return Controls(images, status, sizes, times, alpha, go, stop, **more)


def _more(offered: list[tuple[str, str]], model: str, psnr: str) -> dict[str, Any]:
    more: dict[str, Any] = {}
    with gr.Row():
        with gr.Column(min_width=280):
            more["model"] = gr.Dropdown(
                offered,
                value=model,
                label="Network",
                info="Adds the details (MODEL)",
                elem_id="model",
            )
            more["own"] = gr.Button("Use your own weight file", size="sm", elem_id="own")
            more["psnr"] = gr.Dropdown(
                [("none", NONE), *offered],
                value=psnr,
                label="PSNR network",
                info="The network that it was trained from; alpha blends the two",
                elem_id="psnr",
            )
            more["own_psnr"] = gr.Button(
                "Use your own PSNR weight file", size="sm", elem_id="own-psnr"
            )
        with gr.Column(min_width=280):
            more["strength"] = gr.Slider(
                *(0, 1, 1),
                step=0.01,
                label="Strength",
                info="1: the network's result; 0: plain bicubic resizing",
            )
            more["color"] = gr.Checkbox(
                label="Keep the image's colours",
                info="Corrects the network's colour shifts (color)",
            )
            more["ensemble"] = gr.Checkbox(
                label="Average of eight versions",
                info="Upscales the image flipped and rotated as well: slightly better, eight "
                "times slower (ensemble)",
            )
            more["seamless"] = gr.Dropdown(
                [("no", ""), ("wraps around", "wrap"), ("mirrored", "mirror")],
                value="",
                label="Seamless texture",
                info="For textures that repeat",
            )
        with gr.Column(min_width=280):
            more["format"] = gr.Dropdown(
                [*FORMAT_CHOICES.items()],
                value="",
                label="Format of the download",
                elem_id="format",
            )
            more["depth"] = gr.Dropdown(
                [*DEPTH_CHOICES.items()],
                value=0,
                label="Bits per channel",
                info="Depth of the colours",
            )
            more["quality"] = gr.Slider(
                *(0, 100, 0),
                step=1,
                label="Quality",
                info="For JPEG, WebP and AVIF; 0: automatic",
            )
            more["lossless"] = gr.Checkbox(label="Lossless", info="For WebP and AVIF")
            more["tile"] = gr.Dropdown(
                [("automatic", 0), *((f"{side} pixels", side) for side in TILES)],
                value=0,
                label="Tiles",
                info="Smaller tiles need less memory and show progress more often",
            )
    return more
