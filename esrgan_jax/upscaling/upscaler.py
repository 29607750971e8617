"""Upscaler: applies a generator to arrays, or to images in strips, of any size."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import jax
import numpy as np

from esrgan_jax.blend import Model, weighted_models
from esrgan_jax.errors import InputError
from esrgan_jax.interop import zoo
from esrgan_jax.models.generator import Generator, Variables
from esrgan_jax.sharding import split_cpu
from esrgan_jax.upscaling.arrays import checked_array, like_source, to_strips
from esrgan_jax.upscaling.color import COLOR_FIELD
from esrgan_jax.upscaling.device_images import upscale_on_device
from esrgan_jax.upscaling.image_tiles import upscale_strips
from esrgan_jax.upscaling.memory import tile_and_overlap, usual_overlap
from esrgan_jax.upscaling.network import macs
from esrgan_jax.upscaling.options import best_dtype, check_options, result_size
from esrgan_jax.upscaling.strips import Strips
from esrgan_jax.upscaling.tile_runner import TileRunner

if TYPE_CHECKING:
    from PIL.Image import Image

Array = TypeVar("Array", bound=np.ndarray | jax.Array)

# For scores: with these options, results do not depend on the device and its memory.
SCORED: dict[str, Any] = {"dtype": "float32", "tile": 512, "batch": 1}


class Upscaler:
    """Upscales images.

    Args:
        module: The generator, such as `RRDBNet`, or another `models.Generator`.
        variables: Its variables, {"params": …}.
        tile: Longest side of the tiles in LR pixels; None chooses it from the memory. An image
            that fits into one tile is not cut.
        batch: Most tiles of a batch on each device; None chooses it from the memory.
        overlap: LR pixels that neighbouring tiles share; results are cut in its middle. None takes
            `tiles.OVERLAP`, or less if the receptive field is smaller.
        exact: Tiles share twice `receptive_field`; results equal the untiled ones up to rounding.
        seamless: "wrap" or "mirror" continue the image beyond its edges, in every convolution,
            for textures; None pads with zeros, as in training.
        ensemble: The mean over the eight flipped and turned versions: somewhat better, eight times
            the work.
        strength: 1 is the network's result, 0 bicubic upscaling, other values a blend.
        color: "keep" corrects drift of the low frequencies, such as a yellow cast.
        dtype: Computation dtype: "float32", with products of full precision on every device, or
            "bfloat16"; None takes bfloat16 on devices with units for it.
        devices: Where to run, by default on all of this process; see `sharding.split_cpu`.
        spatial: Splits the columns of one image over the devices, instead of tiles.
        then: Another `Upscaler`, which upscales the results of this one, passed on in float32.
        name: Name of the networks, for the metadata of images.

    Raises:
        InputError: Options do not fit together, or do not fit the generator.
    """

    def __init__(
        self,
        module: Generator,
        variables: Variables,
        *,
        tile: int | None = None,
        batch: int | None = None,
        overlap: int | None = None,
        exact: bool = False,
        seamless: str | None = None,
        ensemble: bool = False,
        strength: float = 1.0,
        color: str | None = None,
        dtype: str | None = None,
        devices: Sequence[Any] | None = None,
        spatial: bool = False,
        then: "Upscaler | None" = None,
        name: str = "",
    ):
        split_cpu()
        devices = list(jax.local_devices() if devices is None else devices)
        check_options(
            tile=tile,
            overlap=overlap,
            exact=exact,
            seamless=seamless,
            strength=strength,
            color=color,
            dtype=dtype,
        )
        if variables and "params" not in variables:  # a network may have none
            raise InputError(
                'variables have no "params": give {"params": parameters}, as init and '
                "load_generator return them"
            )
        same = module.in_channels == module.out_channels
        if not same and (strength < 1 or color):
            raise InputError("strength and color need a network that keeps the channels")
        self.module = module.clone(dtype=np.dtype(dtype or best_dtype(devices[0])))
        self.scale: int = module.scale * (then.scale if then else 1)
        self.then, self.name = then, name
        self.multiple = module.size_multiple
        self.macs = macs(self.module, variables)
        self.keep_color, self.ensemble = color == "keep", ensemble
        self.tile, self.overlap = tile_and_overlap(
            self.module,
            devices[0],
            tile=tile,
            overlap=overlap,
            exact=exact,
            further=COLOR_FIELD if self.keep_color else 0,
            planes=8 if ensemble else 1,
        )
        self.runner = TileRunner(
            self.module,
            variables,
            devices=devices,
            spatial=spatial,
            overlap=self.overlap,
            keep_overlap=exact or overlap is not None,
            batch=batch,
            border=seamless or "zero",
            ensemble=ensemble,
            keep_color=self.keep_color,
            **({} if strength == 1 else {"strength": strength}),
        )

    def seams(self, height: int, width: int) -> str | None:
        """Returns a note if an LR image of this size has tiles that share less than usual."""
        usual = usual_overlap(self.module, COLOR_FIELD if self.keep_color else 0)
        enough = self.runner.keep_overlap or self.overlap >= usual
        if enough or max(height, width) <= self.tile:
            scale = self.module.scale
            return self.then.seams(scale * height, scale * width) if self.then else None
        return (
            f"tiles of {self.tile} px share {self.overlap} px instead of {usual}, so seams may be "
            f"visible; tiles of {2 * usual} px or more share enough"
        )

    @classmethod
    def load(
        cls,
        model: Model | Sequence[Model | None] | Mapping[Model, float] | None = None,
        *,
        psnr_model: Model | None = None,
        alpha: float | None = None,
        denoise: float | None = None,
        **options: Any,
    ) -> Self:
        """Loads an upscaler from a run, a checkpoint directory, a weight file or a published name.

        Args:
            model: The model. A list of models is a chain, each upscaling the last one's result; a
                mapping {model: weight} is the interpolation of networks of one architecture. None
                is the networks of the package, interpolated by `alpha` and `denoise`.
            psnr_model: With `alpha`, the blend (1 - alpha) · psnr_model + alpha · model.
            alpha: 0 is `psnr_model`, 1 is `model`. In a chain both are for the first model.
            denoise: Of the package's, 0 is for clean images, 1 for noise, blur and JPEG.
            **options: Options of `Upscaler`, for every model of a chain.

        Raises:
            InputError: A model cannot be used, models do not match, or `model`, `psnr_model` and
                the rest do not fit together, see `blend.weighted_models`.
        """
        from esrgan_jax.interpolation import load_models

        split_cpu()
        check_options(**options)  # before files of many megabytes are read
        links: list[Any] = list(model) if isinstance(model, list | tuple) else [model]
        if not links:
            raise InputError("the list of models is empty: give one or more")
        first = weighted_models(links[0], psnr_model, alpha, denoise)
        blends = [first, *map(weighted_models, links[1:])]
        for name in (name for networks in blends for name, _ in networks):
            zoo.require(name)
        upscaler = None
        for networks in reversed(blends):
            module, variables, name = load_models(networks)
            name = f"{name} > {upscaler.name}" if upscaler else name
            upscaler = cls(module, variables, then=upscaler, name=name, **options)
        assert upscaler is not None
        return upscaler

    @overload
    def __call__(
        self,
        images: Array,
        *,
        scale: float | None = ...,
        size: tuple[int, int] | None = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> Array: ...
    @overload
    def __call__(
        self,
        images: "Image",
        *,
        scale: float | None = ...,
        size: tuple[int, int] | None = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> "Image": ...
    @overload
    def __call__(
        self,
        images: list[Array] | tuple[Array, ...],
        *,
        scale: float | None = ...,
        size: tuple[int, int] | None = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> list[Array]: ...
    @overload
    def __call__(
        self,
        images: "list[Image] | tuple[Image, ...]",
        *,
        scale: float | None = ...,
        size: tuple[int, int] | None = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> "list[Image]": ...
    @overload
    def __call__(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        scale: float | None = ...,
        size: tuple[int, int] | None = ...,
        progress: Callable[[int], None] | None = ...,
    ) -> list[Any]: ...
    def __call__(
        self,
        images: Any,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Any:
        """Upscales one image or a list of them.

        Args:
            images: NumPy or JAX arrays, (H, W) or (H, W, 1 to 4) with gray, gray and alpha, RGB or
                RGB and alpha, uint8, uint16 or float in [0, 1], of any size from 1 x 1; or Pillow
                images. JAX arrays stay on their device, unless `scale`, `size` or `then` is given
                or the list has other images too.
            scale: Scale of the results instead of the network's: they are resized (antialiased
                bicubic) before they are rounded.
            size: (width, height) of the results, instead of `scale`.
            progress: Called with the number of newly finished pixels of the results.

        Returns:
            Images of the same type and dtype, (scale H, scale W, …); clamped to [0, 1] and, for
            integers, rounded half to even.

        Raises:
            InputError: The dtype, the shape or the range is not one of these.
            RunError: The network's result is not finite.
        """
        several = isinstance(images, list | tuple)
        sources = list(images) if several else [images]
        arrays = [checked_array(image) for image in sources]
        on_device = [array for array in arrays if isinstance(array, jax.Array)]
        if len(on_device) == len(arrays) and scale is size is self.then is None:
            results = upscale_on_device(self.runner, on_device, self.tile, self.overlap, progress)
        else:
            inputs = [to_strips(x, result_size(x.shape[:2], scale, size)) for x in arrays]
            done = self.stream(inputs, progress=progress)
            results = [np.concatenate(list(strips.rows)) for strips in done]
        finished = [
            like_source(result, source) for result, source in zip(results, sources, strict=True)
        ]
        return finished if several else finished[0]

    def stream(
        self, images: Iterable[Strips], *, progress: Callable[[int], None] | None = None
    ) -> Iterator[Strips]:
        """Upscales images one after the other, as a stream.

        Tiles of several images share batches, so images are read ahead of what is yielded. Read
        the rows of an image before the next image. An error of an image, from reading or from the
        network, is raised while its rows are read, and does not affect other images.

        Args:
            images: Their rows are read once.
            progress: Called with the number of newly finished pixels of the results.
        """
        links: list[Upscaler] = [self]
        while (then := links[-1].then) is not None:
            links.append(then)
        # Each network's work per pixel of the first input, to weight their progress.
        work = [link.macs * (self.scale // link.scale) ** 2 for link in links]
        ends = [sum(work[:count]) / sum(work) for count in range(len(links) + 1)]
        for link, *part in zip(links, ends, ends[1:], strict=False):
            images = upscale_strips(
                *(link.runner, images, link.tile, link.overlap),
                last=link.then is None,
                progress=progress,
                part=(part[0], part[1]),
                total_scale=link.scale,
            )
        yield from images
