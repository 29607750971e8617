"""What the app does, without its page: models that are kept, one picture in, one file out."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from esrgan_jax import __version__
from esrgan_jax.checkpoint import find_checkpoint, load_generator
from esrgan_jax.errors import InputError
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import SUFFIXES
from esrgan_jax.interpolate import describe_model, mix_params
from esrgan_jax.picture import picture_size
from esrgan_jax.pictures.bands import beside
from esrgan_jax.pictures.reader import Picture, open_picture
from esrgan_jax.pictures.writer import check_target, output_dtype, write_rows
from esrgan_jax.upscaler import Upscaler, result_size
from esrgan_jax.upscaling.step import peak, result_bands
from esrgan_jax.upscaling.strips import Strips, quantized, resized

KEPT = 4  # networks in memory, 67 MB each of the full size
PREVIEW = 1600  # pixels of a preview's longer side: what a browser shows without effort
MEGA = 10**6


@dataclass(frozen=True)
class Limits:
    """What is refused.

    Attributes:
        megapixels: Of a picture that is given, all frames of an animation together.
        result_megapixels: Of what is made of it.
        megabytes: Of any file that is given.
    """

    megapixels: float
    result_megapixels: float
    megabytes: float


def choices(given: Sequence[str], uploaded: Sequence[str] = ()) -> list[tuple[str, str]]:
    """The models to choose from, (what is shown, MODEL): uploads, the command line's, the zoo's."""
    shown = [(f"{Path(path).name} (uploaded)", path) for path in reversed(uploaded)]
    names = [Path(model).name for model in given]
    for name, model in zip(names, given, strict=True):
        clear = Path(model).suffix in SUFFIXES and names.count(name) == 1
        shown.append((name if clear else model, model))
    for name, weights in zoo.ZOO.items():
        if weights.kind == "generator" and name not in given:
            path = zoo.weights_path(name)
            far = weights.url and not path.is_file()
            where = ", downloaded on first use" if far else ""
            # The package's by path: whatever has its name in the current folder is another one.
            model = name if weights.url else str(path)
            shown.append((f"{name} ({weights.what}, x{weights.scale}{where})", model))
    return shown


def allowed(model: str, given: Sequence[str], uploaded: Sequence[str]) -> str:
    """The model, if it is one of the choices: a page must not make the app read other files."""
    if model not in (value for _, value in choices(given, uploaded)):
        raise InputError(f"{Path(model).name}: is not one of the models to choose from")
    return model


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
    if path.suffix.lower() not in SUFFIXES:  # else the message would speak of models of all kinds
        raise InputError(f"{path.name}: is no weight file; accepted are {', '.join(SUFFIXES)}")
    load(str(path))


def make_upscaler(
    model: str, psnr_model: str | None = None, alpha: float = 1, **options: Any
) -> Upscaler:
    """As `Upscaler.load`, of networks that are kept: another alpha only mixes anew."""
    module, variables, name = load(model)
    if psnr_model is not None:
        other, others, other_name = load(psnr_model)
        if other_name == name:
            raise InputError(
                f"{Path(model).name}: is chosen twice; choose another PSNR network, or none"
            )
        kinds = [(type(m), m.scale, getattr(m, "unshuffle", 1)) for m in (other, module)]
        names = f"{Path(psnr_model).name} and {Path(model).name}"
        if kinds[0] != kinds[1]:
            raise InputError(
                f"{names}: only networks of one architecture and scale can be mixed; "
                "choose another PSNR network, or none"
            )
        weights = (1 - alpha, alpha)
        try:
            variables = mix_params([others, variables], weights)
        except InputError as error:
            raise InputError(f"{names}: {error}") from None
        terms = zip((other_name, name), weights, strict=True)
        name = " + ".join(t if w == 1 else f"{t} x {w:g}" for t, w in terms if w)
    return Upscaler(module, variables, name=name, **options)


def open_within(path: Path, limits: Limits) -> Picture:
    """An uploaded picture; InputError if it is none, or has too many pixels."""
    height, width = picture_size(path)  # of the header alone: opening may read all of it
    _check_pixels(path, height * width, limits)
    picture = open_picture(path)
    _check_pixels(path, picture.height * picture.width * picture.frames, limits)
    return picture


def _check_pixels(path: Path, pixels: int, limits: Limits) -> None:
    if pixels > limits.megapixels * MEGA:
        raise InputError(
            f"{path.name}: has {pixels / MEGA:.4g} megapixels, and this app takes up to "
            f"{limits.megapixels:g}; make it smaller, or start the app with --max_megapixels"
        )


def target_name(path: Path, height: int, result_height: int, suffix: str) -> str:
    """Such as "photo_x4.png"."""
    return f"{path.stem}_x{result_height / height:.3g}{suffix}"


def upscale_file(
    upscaler: Upscaler,
    picture: Picture,
    folder: Path,
    limits: Limits,
    *,
    suffix: str = ".png",
    scale: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Upscales one picture into a file, with its depth, transparency, profile and metadata.

    Args:
        upscaler: The network.
        picture: As opened.
        folder: Where the file is made, named after the picture.
        limits: What is refused.
        suffix: The format: ".png".
        scale: Of the result, if not the network's.
        progress: Called with the network's pixels that are done and that there are; what it raises
            stops the work.

    Raises:
        InputError: The result would be too large, or is nothing that the format holds.
        RunError: It cannot be written, or the network's result is not finite.
    """
    made = (picture.height * upscaler.scale, picture.width * upscaler.scale)
    height, width = result_size((picture.height, picture.width), scale, None) or made
    # The network's own result is computed first, whatever is made of it.
    pixels = max(height * width, made[0] * made[1]) * picture.frames
    if pixels > limits.result_megapixels * MEGA:
        raise InputError(
            f"the result would have {pixels / MEGA:.4g} megapixels, and this app makes up to "
            f"{limits.result_megapixels:g}; take a smaller picture, scale or network, or start the "
            "app with --max_result_megapixels"
        )
    told: dict[str, Any] = {
        "height": height,
        "width": width,
        "bands": result_bands(picture.bands, upscaler.module),
        "dtype": output_dtype(suffix, picture.dtype),
        "frames": picture.frames,
    }
    check_target(suffix, **told, beside=beside(picture.extra))
    done, total = 0, made[0] * made[1] * picture.frames

    def count(more: int) -> None:
        nonlocal done
        done = min(done + more, total)
        if progress:
            progress(done, total)

    count(0)
    rows = picture.rows()
    frames = (
        Strips(
            *(picture.height, picture.width, picture.bands, picture.dtype),
            _frame(rows, picture.height),
            result_dtype=told["dtype"],
            result_size=(height, width),
        )
        for _ in range(picture.frames)
    )
    strips = (strip for frame in upscaler.stream(frames, progress=count) for strip in frame.rows)
    target = folder / target_name(Path(picture.name), picture.height, height, suffix)
    software = f"esrgan_jax {__version__}, {upscaler.name}"
    write_rows(target, strips, like=picture, software=software, **told)
    return target


def _frame(rows: Iterator[np.ndarray], height: int) -> Iterator[np.ndarray]:
    """The next frame's strips; none crosses two."""
    read = 0
    while read < height and (strip := next(rows, None)) is not None:
        read += len(strip)
        yield strip


def preview_size(height: int, width: int, longest: int = PREVIEW) -> tuple[int, int]:
    """(height, width) of a picture made to fit; a smaller one keeps its size."""
    shrunk = min(1.0, longest / max(height, width))
    return max(round(height * shrunk), 1), max(round(width * shrunk), 1)


def write_preview(picture: Picture, target: Path, size: tuple[int, int]) -> Path:
    """Writes a picture's first frame for the browser: 8 bits, on white, in its colours' profile.

    Args:
        picture: As opened.
        target: A .webp file.
        size: (height, width) that it shall have, larger or smaller.
    """
    before, bands = (picture.height, picture.width), picture.bands

    def opaque() -> Iterator[np.ndarray]:
        for strip in _frame(picture.rows(), picture.height):
            pixels = strip.astype(np.float32) / np.float32(peak(picture.dtype))
            if bands in (2, 4):
                alpha = pixels[..., -1:]
                pixels = pixels[..., :-1] * alpha + (1 - alpha)
            yield pixels

    rows = opaque() if size == before else resized(opaque(), before, size)
    profile = {k: v for k, v in picture.metadata.items() if k == "icc-profile-data"}
    write_rows(
        target,
        quantized(rows, np.dtype(np.uint8)),
        height=size[0],
        width=size[1],
        bands=bands - 1 if bands in (2, 4) else bands,
        dtype=np.uint8,
        like=replace(picture, metadata=profile, white=1.0),
    )
    return target


def progress_line(done: int, total: int, seconds: float) -> str:
    """Such as "1.2 of 4.8 megapixels, 00:36 left"."""
    if not done:
        return f"{total / MEGA:.2f} megapixels to compute"
    left = tqdm.format_interval(seconds * (total - done) / done)
    return f"{done / MEGA:.2f} of {total / MEGA:.2f} megapixels, {left} left"


def summary(picture: Picture, result: Picture, seconds: float) -> str:
    """What became of a picture, in a line, and what the user should be told."""
    bits = {"u": f"{8 * result.dtype.itemsize} bits", "f": "floating point"}[result.dtype.kind]
    channels = ("gray", "gray with transparency", "RGB", "RGB with transparency")[result.bands - 1]
    line = (
        f"{picture.width}×{picture.height} to {result.width}×{result.height} pixels, "
        f"{channels}, {bits}, in {tqdm.format_interval(seconds)}"
    )
    return ". ".join([line, *picture.notes])


def plainly(error: Exception, folder: Path) -> str:
    """An error's sentence with files of the app's folder called what the user calls them."""
    return re.sub(re.escape(str(folder)) + r"/(?:[^/\s]+/)*", "", str(error))
