"""The networks that the page offers, and a cache of loaded ones.

The page refers to them by keys, which do not reveal folders of this machine: a name in the zoo,
"given-0" for a model of the command line, "own-0" for an uploaded file.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from etils import epath

from esrgan_jax.app.watched import Watched
from esrgan_jax.blend import GAN, PSNR, REAL, REAL_PSNR
from esrgan_jax.checkpoint import find_checkpoint
from esrgan_jax.errors import InputError
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import WEIGHT_SUFFIXES, is_read
from esrgan_jax.interpolation import Loaded, blend_models, load_model

LARGEST_SHOWN = 512  # LR pixels of a tile's side, so that parts of a large image appear early
KEPT = 4  # networks in memory; a full-size one has 67 MB
NONE = "none"
PAIRS = {
    REAL: REAL_PSNR,
    GAN: PSNR,
    "esrgan-x4": "esrgan-psnr-x4",
    "realesrgan-x4plus": "realesrnet-x4plus",
}
LOSSY_NETWORK = REAL  # trained on JPEG artifacts, noise and blur


class Networks:
    """The networks of the command line and of the zoo.

    Args:
        models: Models of the command line.
        psnr_model: The PSNR network that they are blended with by default, if any.
    """

    def __init__(self, models: Sequence[str], psnr_model: str | None = None):
        named = [*models, psnr_model] if psnr_model else [*models]
        self.given: dict[str, str] = {
            model if model in zoo.ZOO else f"given-{index}": model
            for index, model in enumerate(dict.fromkeys(named))
        }
        keys = {model: key for key, model in self.given.items()}
        self.first = keys[models[0]] if models else REAL
        partner = keys.get(psnr_model or "")
        self.partners = dict.fromkeys((keys[model] for model in models), partner)

    def choices(self, uploaded: Mapping[str, str]) -> list[tuple[str, str]]:
        """Returns (label, key) of the uploaded, the command line's and the zoo's networks.

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
        """Returns the key of the PSNR network that a network is blended with by default, or NONE.

        Networks that would have to be downloaded are not selected by default.
        """
        if key in self.partners:
            return self.partners[key] or NONE
        pair = PAIRS.get(key)
        return pair if pair and not download_of(pair) else NONE

    def model(self, key: str, uploaded: Mapping[str, Path]) -> str:
        """Returns the model of a key, a path or a name in the zoo.

        Raises:
            InputError: The key is not one of the choices.
            RunError: The package's own weights are missing or damaged.
        """
        if key in uploaded:
            return str(uploaded[key])
        if key in self.given:
            return self.given[key]
        if key in zoo.ZOO and zoo.ZOO[key].kind == "generator":
            # The package's by path: the current folder may have something else of that name.
            return key if zoo.ZOO[key].url else str(zoo.fetch(key))
        raise InputError(f"{Path(key).name}: is not one of the networks to choose from")

    def scale(self, key: str, uploaded: Mapping[str, Path]) -> int:
        """Returns a network's scale; loads it unless it is in the zoo."""
        if key in zoo.ZOO:
            return zoo.ZOO[key].scale
        return load_cached(self.model(key, uploaded)).module.scale


def download_of(name: str) -> str:
    """Returns text such as "67 MB to download"; "" if the weights are on this machine."""
    weights = zoo.ZOO[name]
    path = zoo.weights_path(name)
    if not weights.url or path.is_file():
        return ""
    return f"{round((weights.size or 4 * weights.parameters) / 10**6)} MB to download"


def _short(model: str, others: Sequence[str]) -> str:
    """Returns the shortest end of a path that is unique among others: "x4/gan", "mine.pth"."""
    parts = Path(model).parts
    least = 1 if Path(model).suffix in WEIGHT_SUFFIXES or model in zoo.ZOO else 2
    for count in range(least, len(parts)):
        end = parts[-count:]
        if [Path(other).parts[-count:] for other in others].count(end) == 1:
            return str(Path(*end))
    return str(Path(*parts[-max(least, len(parts) - 1) :])).lstrip("/")


def check_models(models: Sequence[str]) -> None:
    """Raises InputError if a model is neither a path nor a name in the zoo; downloads nothing."""
    for model in models:
        if model not in zoo.ZOO:
            zoo.resolve(model)


def load_cached(model: str) -> Loaded:
    """Loads a model, or returns the cached one if the file is unchanged; KEPT are cached.

    Raises:
        InputError: It cannot be read, or is not a generator.
        RunError: It cannot be downloaded.
    """
    path = zoo.resolve(model)
    checkpoint = find_checkpoint(epath.Path(path)) if path.is_dir() else None
    place = Path(checkpoint or path)
    return _load(str(path), str(place), place.stat().st_mtime_ns)


@lru_cache(KEPT)
def _load(model: str, place: str, changed: int) -> Loaded:
    return load_model(model)


def check_weights(path: Path) -> None:
    """Raises InputError if an uploaded weight file is damaged or not a generator."""
    if not is_read(path):  # otherwise the message would list all kinds of models
        raise InputError(
            f"{path.name}: is not a weight file; accepted are {', '.join(WEIGHT_SUFFIXES)}"
        )
    load_cached(str(path))


def make_upscaler(
    model: str, psnr_model: str | None = None, alpha: float = 1, **options: Any
) -> Watched:
    """As `Upscaler.load`, with cached networks: another alpha only interpolates again.

    Raises:
        InputError: A network cannot be read, or the two cannot be blended.
        RunError: A network cannot be downloaded.
    """
    loaded = load_cached(model)
    if psnr_model is not None:
        partner = load_cached(psnr_model)
        if partner.name == loaded.name:
            raise InputError(
                f"{Path(model).name}: is chosen twice; choose another PSNR network, or none"
            )
        models = [Path(psnr_model).name, Path(model).name]  # no folder of this machine
        loaded = blend_models(models, [partner, loaded], [1 - alpha, alpha])
    upscaler = Watched(loaded.module, loaded.variables, name=loaded.name, **options)
    if options.get("tile") is None:
        upscaler.tile = min(upscaler.tile, LARGEST_SHOWN)
    return upscaler
