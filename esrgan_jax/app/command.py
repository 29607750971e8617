"""The command that serves the page: `python -m esrgan_jax.app`.

Nothing leaves the machine: no analytics, no public link, no fonts or scripts of other servers.
"""

import argparse
import os
import signal
import tempfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from esrgan_jax.app.address import check_address
from esrgan_jax.blend import PSNR_ALONE
from esrgan_jax.command_line import model_type, parse, program
from esrgan_jax.errors import InputError, RunError, missing

if TYPE_CHECKING:
    from gradio.themes import Base

    from esrgan_jax.app.page import Page

DEFAULT_HOST = "127.0.0.1"
FIRST_PORT, PORTS = 7860, 100  # Gradio's
ENVIRONMENT = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}
LIMITS = {
    "megapixels": (50, "largest image, in megapixels"),
    "result_megapixels": (800, "largest result, in megapixels"),
    "megabytes": (300, "largest uploaded file, in megabytes"),
}


def theme() -> "Base":
    """Returns Gradio's theme with more contrast and local fonts; its own come from a server."""
    from gradio.themes import Default

    return Default(
        primary_hue="blue",
        font=("system-ui", "sans-serif"),
        font_mono=("ui-monospace", "monospace"),
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
    )


def serve(page: "Page", host: str, port: int | None, allowed: Sequence[str] = ()) -> None:
    """Serves the page until SIGINT or SIGTERM.

    Args:
        page: The page.
        host: The address to listen at.
        port: The port; None takes the first free one from FIRST_PORT.
        allowed: Further names of the server, see `guard.known_hosts`.

    Raises:
        RunError: The port is in use, or the address is not this machine's.
    """
    from starlette.middleware import Middleware

    from esrgan_jax.app import layout
    from esrgan_jax.app.guard import Guard, known_hosts

    try:
        _, url, _ = page.blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            footer_links=[],
            enable_monitoring=False,
            app_kwargs={
                "middleware": [Middleware(Guard, known_hosts(host, allowed))],
                "routes": page.routes,
            },
            theme=theme(),
            css=(Path(layout.__file__).parent / "page.css").read_text(),
        )
    except OSError as error:
        place = f"port {port}" if port else f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1}"
        raise RunError(f"{host}, {place}: cannot be used; choose another --port") from error
    print(f"{url} (Ctrl-C ends it)", flush=True)
    if host not in (DEFAULT_HOST, "localhost", "[::1]"):
        print("Everybody who can reach this machine can use it.", flush=True)
    try:
        page.blocks.block_thread()
    finally:
        page.blocks.close(verbose=False)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=program("app"),
        description="Serve a page that upscales images on this machine.",
        epilog="MODEL is a run or checkpoint directory, a weight file or the name of "
        "published weights (esrgan-jax models lists them).",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        type=model_type,
        nargs="+",
        default=[],
        action="extend",
        help="networks to choose from, in addition to the package's and the published ones",
    )
    parser.add_argument(
        "--psnr_model",
        metavar="MODEL",
        type=model_type,
        help="a PSNR network to interpolate them with",
    )
    parser.add_argument(
        "--host", default=DEFAULT_HOST, help=f"address to serve at (default {DEFAULT_HOST})"
    )
    parser.add_argument(
        "--allow_host",
        metavar="NAME",
        nargs="+",
        default=[],
        action="extend",
        help="further names of the server that browsers may use, such as that of a proxy",
    )
    parser.add_argument("--port", type=int, help=f"default: the first free one from {FIRST_PORT}")
    for name, (most, what) in LIMITS.items():
        text = f"{what} (default {most:g})"
        parser.add_argument(f"--max_{name}", type=float, metavar="N", default=most, help=text)
    args = parse(parser, argv)
    limits = {name: getattr(args, f"max_{name}") for name in LIMITS}
    for name, most in limits.items():
        if not most > 0:
            raise InputError(f"--max_{name}={most:g}: give a positive number")
    host = check_address(args.host, args.port)
    if not args.model and args.psnr_model is not None:
        raise InputError(PSNR_ALONE)
    models = [name for name in dict.fromkeys([*args.model, args.psnr_model]) if name is not None]
    if "" in models:
        raise InputError("--model or --psnr_model is empty: name a network, or leave it out")
    from esrgan_jax.app.image_work import Limits
    from esrgan_jax.app.networks import check_models
    from esrgan_jax.compilation import keep_programs
    from esrgan_jax.sharding import split_cpu

    check_models(models)
    split_cpu()
    keep_programs()
    # As Ctrl-C does, so that the files are deleted.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="esrgan_jax-app-") as folder:
            os.environ |= ENVIRONMENT | {"GRADIO_TEMP_DIR": folder}  # Gradio reads them on import
            try:
                import_module("gradio")
            except ImportError:
                raise missing("pages", "Gradio", "gradio<7") from None
            from esrgan_jax.app.page import Page

            page = Page(args.model, args.psnr_model, Limits(**limits), Path(folder).resolve())
            serve(page, host, args.port, args.allow_host)
    finally:
        signal.signal(signal.SIGTERM, before)
