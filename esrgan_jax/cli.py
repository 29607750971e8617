"""The console script `esrgan-jax`, which runs all commands as sub-commands."""

import importlib
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from esrgan_jax import __version__
from esrgan_jax.command_line import SCRIPT
from esrgan_jax.errors import InputError, did_you_mean, run_command
from esrgan_jax.packaged import home


class Command(NamedTuple):
    """A sub-command.

    Attributes:
        place: "module:function" of the package, or a file of `tools/` with a function `main`.
        help: A short description for --help.
    """

    place: str
    help: str


COMMANDS = {
    "upscale": Command("esrgan_jax.upscale:run", "upscale images and videos"),
    "app": Command("esrgan_jax.app.command:main", "open a page in the browser to upscale images"),
    "train": Command("esrgan_jax.main:run", "train a network, or resume a run"),
    "interpolate": Command("esrgan_jax.interpolate:main", "interpolate the weights of networks"),
    "evaluate": Command("esrgan_jax.evaluate:main", "compare networks: PSNR, SSIM, LPIPS, NIQE"),
    "models": Command("esrgan_jax.interop.zoo:main", "list published weights, or download some"),
    "convert-generator": Command("convert_rrdb.py", "convert the weights of a generator"),
    "convert-discriminator": Command(
        "convert_discriminator.py", "convert the weights of a discriminator"
    ),
    "convert-vgg": Command(
        "convert_vgg.py", "convert the weights of a VGG for the perceptual loss"
    ),
    "prepare": Command("prepare_data.py", "cut training images into sub-images"),
    "export": Command("export.py", "export a network as StableHLO that runs with JAX alone"),
    "demo": Command("demo.py", "upscale a photograph, and fine-tune a network on noise and JPEG"),
    "plot": Command("plot_run.py", "plot the curves of a run"),
}


def usage() -> str:
    """Returns the text that --help prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items()]
    head = "usage: esrgan-jax COMMAND … (help on one: esrgan-jax COMMAND --help)\n\n"
    return head + "\n".join(lines)


def find(place: str) -> Callable[[], int | None]:
    """Returns the function that runs a command; it takes its arguments from `sys.argv`.

    Args:
        place: As `Command.place`.
    """
    if place.endswith(".py"):
        sys.path.append(str(home()))  # for `from configs import …`
        return runpy.run_path(str(home() / "tools" / place))["main"]
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function)


def main(argv: Sequence[str] | None = None) -> int | None:
    """Runs the sub-command that the first argument names, and returns its exit code.

    Raises:
        InputError: No such sub-command exists.
    """
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
    elif name == "--version":
        print(f"esrgan_jax {__version__}")
    elif name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS) or " esrgan-jax --help lists all."
        raise InputError(f"there is no command {name}.{hint}")
    else:
        sys.argv = [f"{SCRIPT} {name}", *rest]
        return find(COMMANDS[name].place)()
    return None


def run() -> None:
    """Runs `main` as a console script: prints errors and exits with their code."""
    run_command(main)


if __name__ == "__main__":
    run()
