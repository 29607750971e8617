"""The controls of the page, in Gradio."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from esrgan_jax.app.intake import SAMPLES
from esrgan_jax.app.networks import NONE
from esrgan_jax.blend import ALPHA
from esrgan_jax.images.image_file import SUFFIXES

HERE = Path(__file__).parent
TITLE = "ESRGAN in JAX"
SIZES = {"2×": "2", "4×": "4", "Own": "own"}
TILES = (64, 128, 256, 512)
FORMATS = {
    "Automatic: PNG, WebP for animations": "",
    "PNG": ".png",
    "TIFF": ".tif",
    "WebP": ".webp",
    "AVIF": ".avif",
    "JPEG": ".jpg",
}
DEPTHS = {"as the image": 0, "8 bits": 8, "16 bits": 16, "32 bits, floating point": 32}
PAIR = "Smooth and true to the image, or crisp with invented texture (alpha)"
NO_PAIR = "This network has no partner to be mixed with: choose one under More"


@dataclass(frozen=True)
class Controls:
    """What the page is made of; `images` tells what its scripts know, `told` what they draw."""

    images: Any
    told: Any
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


def script(*names: str) -> str:
    """Files of this folder, one behind the other."""
    return "\n".join((HERE / name).read_text() for name in names)


def create(
    offered: list[tuple[str, str]], model: str, psnr: str, size: str, own_size: float, limit: float
) -> Controls:
    """Makes the controls, within `gr.Blocks`.

    Args:
        offered: The networks.
        model: The one that is chosen at first.
        psnr: Its partner, or NONE.
        size: A value of SIZES.
        own_size: How many times, where that is "own".
        limit: Megabytes of a file.
    """
    samples = "".join(
        f'<button type="button" class="sample" data-sample="{name}" title="Try it with this '
        f'image: {name}"><img src="samples/{name}" alt="{name}" height="44"></button>'
        for name in SAMPLES
    )
    page = script("page.html").replace("SAMPLES", samples)
    page = page.replace("KINDS", ",".join(["image/*", *SUFFIXES]))
    images = gr.HTML(
        {"keys": [], "shown": None},
        html_template=page.replace("TITLE", TITLE),
        js_on_load=script("viewer.js", "camera.js", "page.js"),
        apply_default_css=False,
        megabytes=limit,
        elem_id="page",
    )
    with images:
        with gr.Row(elem_id="main"):
            sizes = gr.Radio([*SIZES.items()], value=size, label="Size", elem_id="size")
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
        told = gr.HTML(
            {},
            html_template=script("told.html"),
            js_on_load="watch('value', () => document.dispatchEvent("
            "new CustomEvent('told', {detail: props.value})));",
            apply_default_css=False,
            elem_id="told",
        )
        with gr.Accordion("More", open=False, elem_id="more"):
            more = _more(offered, model, psnr)
    return Controls(images, told, sizes, times, alpha, go, stop, **more)


def _more(offered: list[tuple[str, str]], model: str, psnr: str) -> dict[str, Any]:
    more: dict[str, Any] = {}
    with gr.Row():
        with gr.Column(min_width=280):
            more["model"] = gr.Dropdown(
                offered,
                value=model,
                label="Network",
                info="What makes the details (MODEL; the GAN network)",
                elem_id="model",
            )
            more["own"] = gr.Button("Use a weight file of your own", size="sm", elem_id="own")
            more["psnr"] = gr.Dropdown(
                [("none", NONE), *offered],
                value=psnr,
                label="Its faithful partner",
                info="The PSNR network that it was trained from, to be mixed with by alpha",
                elem_id="psnr",
            )
            more["own_psnr"] = gr.Button(
                "Use a PSNR weight file of your own", size="sm", elem_id="own-psnr"
            )
        with gr.Column(min_width=280):
            more["strength"] = gr.Slider(
                *(0, 1, 1),
                step=0.01,
                label="Strength",
                info="1: what the network makes; 0: a plain bicubic enlargement",
            )
            more["color"] = gr.Checkbox(
                label="Keep the image's colours", info="Corrects a cast of the network (color)"
            )
            more["ensemble"] = gr.Checkbox(
                label="Best of eight looks",
                info="The mean of flipped and turned versions: a bit better, eight times the work "
                "(ensemble)",
            )
            more["seamless"] = gr.Dropdown(
                [("no", ""), ("wraps around", "wrap"), ("is mirrored", "mirror")],
                value="",
                label="Seamless texture",
                info="For images that are laid side by side",
            )
        with gr.Column(min_width=280):
            more["format"] = gr.Dropdown(
                [*FORMATS.items()], value="", label="Format of the download", elem_id="format"
            )
            more["depth"] = gr.Dropdown(
                [*DEPTHS.items()], value=0, label="Bits a channel", info="Depth of the colours"
            )
            more["quality"] = gr.Slider(
                *(0, 100, 0),
                step=1,
                label="Quality",
                info="Of JPEG, WebP and AVIF; 0 chooses a good one",
            )
            more["lossless"] = gr.Checkbox(label="Lossless", info="For WebP and AVIF")
            more["tile"] = gr.Dropdown(
                [("automatic", 0), *((f"{side} pixels", side) for side in TILES)],
                value=0,
                label="Tiles",
                info="Smaller ones need less memory, show more of their work and stop sooner",
            )
    return more
