"""The networks that the page offers, and a cache of those that are loaded.

The page knows them by keys, which say nothing of this machine's folders: the zoo's name, "given-0"
of the command line, or "own-…" of a file that was uploaded.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from etils import epath

from esrgan_jax.app.watched import Watched
from esrgan_jax.blend import GAN, PSNR
from esrgan_jax.checkpoint import find_checkpoint, load_generator
from esrgan_jax.errors import InputError
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import SUFFIXES, is_read
from esrgan_jax.interpolation import blend_params, describe_model

SHOWN = 512  # LR pixels of the largest tile, so that parts of a large image are seen early
KEPT = 4  # networks in memory, 67 MB each of the full size
NONE = "none"
PAIRS = {
    GAN: PSNR,
    "esrgan-x4": "esrgan-psnr-x4",
    "realesrgan-x4plus": "realesrnet-x4plus",
}
FLAWED = "realesrgan-x4plus"  # trained on what JPEG and cameras do to images
MEGA = 10**6


class Networks:
    """The networks of the command line and of the zoo.

    Args:
        given: MODELs of the command line.
        psnr_model: The one that all of them are mixed with at first, if any.
    """

    def __init__(self, given: Sequence[str], psnr_model: str | None = None):
        named = [*given, psnr_model] if psnr_model else [*given]
        models: list[str] = list(dict.fromkeys(named))
        self.given: dict[str, str] = {
            model if model in zoo.ZOO else f"given-{index}": model
            for index, model in enumerate(models)
        }
        keys = {model: key for key, model in self.given.items()}
        self.first = keys[given[0]] if given else GAN
        partner = keys.get(psnr_model or "")
        self.partners = dict.fromkeys((keys[model] for model in given), partner)

    def choices(self, uploaded: Mapping[str, str]) -> list[tuple[str, str]]:
        """(what is shown, key): uploads, the command line's, the zoo's.

        Args:
            uploaded: {key: file name}, oldest first.
        """
        shown = [(f"{name} (uploaded)", key) for key, name in [*uploaded.items()][::-1]]
        shown += [(_short(model, [*self.given.values()]), key) for key, model in self.given.items()]
        for name, weights in zoo.ZOO.items():
            if weights.kind == "generator" and name not in self.given:
                where = f", {download_of(name)}" if download_of(name) else ""
                shown.append((f"{name} ({weights.what}, x{weights.scale}{where})", name))
        return shown

    def partner(self, key: str) -> str:
        """The PSNR network that a network is mixed with when it is chosen, or NONE.

        Of others' pairs only what is on this machine: nothing is downloaded unasked.
        """
        if key in self.partners:
            return self.partners[key] or NONE
        pair = PAIRS.get(key)
        return pair if pair and not download_of(pair) else NONE

    def model(self, key: str, uploaded: Mapping[str, Path]) -> str:
        """MODEL of a key; InputError for one that is not there to choose.

        RunError where this package's own weights are missing or damaged.
        """
        if key in uploaded:
            return str(uploaded[key])
        if key in self.given:
            return self.given[key]
        if key in zoo.ZOO and zoo.ZOO[key].kind == "generator":
            # The package's by path: whatever has its name in the current folder is another one.
            return key if zoo.ZOO[key].url else str(zoo.fetch(key))
        raise InputError(f"{Path(key).name}: is not one of the networks to choose from")

    def scale(self, key: str, uploaded: Mapping[str, Path]) -> int:
        """How many times a network enlarges; 0 where only a download would tell."""
        if key in zoo.ZOO:
            return zoo.ZOO[key].scale
        return load(self.model(key, uploaded))[0].scale


def download_of(name: str) -> str:
    """Such as "67 MB to download"; "" where the weights are on this machine."""
    weights = zoo.ZOO[name]
    path = zoo.weights_path(name)
    if not weights.url or path.is_file():
        return ""
    return f"{round((weights.size or 4 * weights.parameters) / MEGA)} MB to download"


def _short(model: str, others: Sequence[str]) -> str:
    """The end of a path that tells it from the others: "x4/gan", "mine.pth"."""
    parts = Path(model).parts
    least = 1 if Path(model).suffix in SUFFIXES or model in zoo.ZOO else 2
    for count in range(least, len(parts)):
        end = parts[-count:]
        if [Path(other).parts[-count:] for other in others].count(end) == 1:
            return str(Path(*end))
    return str(Path(*parts[-max(least, len(parts) - 1) :])).lstrip("/")


def check_models(models: Sequence[str]) -> None:
    """InputError for a model that is neither a path nor a name of the zoo; nothing is fetched."""
    for model in models:
        if model not in zoo.ZOO:
            zoo.resolve(model)


def load(model: str) -> tuple[Any, Any, str]:
    """(module, variables, name) of a model, kept while it is one of the last KEPT and unchanged.

    Raises:
        InputError: It cannot be read, or is no generator.
        RunError: It cannot be downloaded.
    """
    path = zoo.resolve(model)
    checkpoint = find_checkpoint(epath.Path(path)) if path.is_dir() else None
    place = Path(checkpoint or path)
    return _load(str(path), str(place), place.stat().st_mtime_ns)


@lru_cache(KEPT)
def _load(model: str, place: str, changed: int) -> tuple[Any, Any, str]:
    module, variables = load_generator(place)
    return module, variables, describe_model(model, variables)


def check_weights(path: Path) -> None:
    """Reads an uploaded weight file, as data: InputError if it is damaged or no generator."""
    if not is_read(path):  # else the message would speak of models of all kinds
        raise InputError(f"{path.name}: is no weight file; accepted are {', '.join(SUFFIXES)}")
    load(str(path))


def make_upscaler(
    model: str, psnr_model: str | None = None, alpha: float = 1, **options: Any
) -> Watched:
    """As `Upscaler.load`, of networks that are kept: another alpha only mixes anew."""
    module, variables, name = load(model)
    if psnr_model is not None:
        other, others, other_name = load(psnr_model)
        if other_name == name:
            raise InputError(
                f"{Path(model).name}: is chosen twice; choose another PSNR network, or none"
            )
        kinds = [(type(m), m.scale, m.size_multiple) for m in (other, module)]
        names = f"{Path(psnr_model).name} and {Path(model).name}"
        if kinds[0] != kinds[1]:
            raise InputError(
                f"{names}: only networks of one architecture and scale can be mixed; "
                "choose another PSNR network, or none"
            )
        weights = (1 - alpha, alpha)
        try:
            variables = blend_params([others, variables], weights)
        except InputError as error:
            raise InputError(f"{names}: {error}") from None
        terms = zip((other_name, name), weights, strict=True)
        name = " + ".join(t if w == 1 else f"{t} x {w:g}" for t, w in terms if w)
    upscaler = Watched(module, variables, name=name, **options)
    if options.get("tile") is None:
        upscaler.tile = min(upscaler.tile, SHOWN)
    return upscaler
