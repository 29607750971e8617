"""A generator applied to pictures in memory: whole, or in overlapping tiles of one shape."""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from esrgan_jax.errors import InputError, RunError
from esrgan_jax.interpolate import load_mixture

OVERLAP = 32


class Upscaler:
    """Upscales pictures, NumPy in and out.

    Args:
        module: The generator, such as `RRDBNet`: a Linen module from (N, H, W, in_channels) in
            [0, 1] to (N, scale H, scale W, out_channels).
        variables: Its variables, {"params": …}.
        tile: Side of the square tiles in LR pixels; None takes the picture whole. Memory grows
            with the tile instead of the picture.
        overlap: LR pixels that neighbouring tiles share. Each result is cut in the middle of the
            shared band, so a pixel's surroundings are known for at least half of it.

    Raises:
        InputError: tile and overlap do not fit together, or not the generator.
    """

    def __init__(
        self, module: Any, variables: Any, *, tile: int | None = None, overlap: int = OVERLAP
    ):
        # On the device once, instead of with every tile.
        self.module, self.variables = module, jax.device_put(variables)
        self.scale: int = module.scale
        self.multiple: int = getattr(module, "unshuffle", 1)
        self.tile, self.overlap = tile, overlap
        if overlap < 0:
            raise InputError(f"an overlap of {overlap} px is negative; give 0 or more")
        if tile is not None and (tile < overlap + self.multiple or tile % self.multiple):
            must = f"{overlap + self.multiple} px or more (the overlap is {overlap})"
            if self.multiple > 1:
                must += f" and a multiple of {self.multiple}, which this network folds"
            raise InputError(f"a tile of {tile} px must be {must}")

    @classmethod
    def load(
        cls,
        model: str | Path,
        *,
        psnr_model: str | Path | None = None,
        alpha: float | None = None,
        tile: int | None = None,
        overlap: int = OVERLAP,
    ) -> Self:
        """The upscaler of a run or checkpoint directory or a weight file.

        With `psnr_model` and `alpha`, of the mixture (1 - alpha) · psnr_model + alpha · model.

        Raises:
            InputError: a model cannot be used, the two do not match, or one of `psnr_model` and
                `alpha` is given without the other.
        """
        if (psnr_model is None) != (alpha is None):
            given, missing = (
                ("alpha", "psnr_model") if psnr_model is None else ("psnr_model", "alpha")
            )
            raise InputError(
                f"{given} without {missing}: interpolation needs both "
                "(alpha 0 is the psnr_model, 1 the model)"
            )
        if psnr_model is None or alpha is None:
            from esrgan_jax.checkpoint import load_generator

            module, variables = load_generator(model)
        else:
            module, variables = load_mixture(psnr_model, model, alpha)
        return cls(module, variables, tile=tile, overlap=overlap)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Upscales one picture.

        Args:
            image: (H, W, C) uint8, uint16 or float in [0, 1], of any size from 1 x 1.

        Returns:
            (scale H, scale W, C') of the same dtype: clamped to [0, 1] and, for integers,
            rounded half to even, as the authors' test.py does.

        Raises:
            InputError: the dtype, the shape or the range is another.
            RunError: the network's result is not finite.
        """
        image = np.asarray(image)
        peak = self._check(image)
        height, width = image.shape[:2]
        lr = (image / peak).astype(np.float32)
        # Mirrored as Real-ESRGAN does it, at the far sides only: the pixel grid stays in place.
        lr = np.pad(
            lr, [(0, -height % self.multiple), (0, -width % self.multiple), (0, 0)], "reflect"
        )
        rows = self._spans(lr.shape[0])
        columns = self._spans(lr.shape[1])
        scale = self.scale
        shape = (lr.shape[0] * scale, lr.shape[1] * scale, self.module.out_channels)
        sr = np.empty(shape, image.dtype)
        for top, bottom, row, row_end in rows:
            for left, right, column, column_end in columns:
                tile = _apply(self.module, self.variables, lr[None, top:bottom, left:right])[0]
                keep = np.asarray(tile)[
                    (row - top) * scale : (row_end - top) * scale,
                    (column - left) * scale : (column_end - left) * scale,
                ]
                if not np.isfinite(keep).all():  # NaN would be cast to 0, a black picture
                    raise RunError(
                        "the network gives values that are not finite; "
                        "its weights are damaged or its training diverged"
                    )
                keep = keep.clip(0, 1) * peak
                sr[row * scale : row_end * scale, column * scale : column_end * scale] = (
                    keep if peak == 1 else np.rint(keep)
                )
        return sr[: height * scale, : width * scale]

    def _spans(self, size: int) -> list[tuple[int, int, int, int]]:
        if self.tile is None or self.tile >= size:
            return [(0, size, 0, size)]
        return spans(size, self.tile, self.overlap, self.multiple)

    def _check(self, image: np.ndarray) -> int:
        """The value that stands for 1 in the picture."""
        if image.ndim != 3 or 0 in image.shape:
            raise InputError(f"a picture has shape (height, width, channels), got {image.shape}")
        channels = self.module.in_channels
        if image.shape[2] != channels:
            raise InputError(
                f"the network takes pictures of {channels} channels, got {image.shape[2]}; "
                "convert the picture first"
            )
        if image.dtype in (np.uint8, np.uint16):
            return np.iinfo(image.dtype).max
        if not np.issubdtype(image.dtype, np.floating):
            raise InputError(f"a picture is uint8, uint16 or float, got {image.dtype}; convert it")
        low, high = image.min(), image.max()
        if not (low >= 0 and high <= 1):  # false for NaN as well
            raise InputError(
                f"a float picture lies in [0, 1], got values from {low:g} to {high:g}; "
                "divide by its white or clip it"
            )
        return 1


@partial(jax.jit, static_argnums=0)
def _apply(module: Any, variables: Any, lr: jax.Array) -> jax.Array:
    # Variables are an argument: closed over, they would become constants of the program.
    return module.apply(variables, lr)


def spans(size: int, tile: int, overlap: int, multiple: int = 1) -> list[tuple[int, int, int, int]]:
    """Evenly placed tiles of one length along an axis.

    Args:
        size: Length of the axis, longer than the tile.
        tile: Length of every tile, at least `overlap` + `multiple`.
        overlap: Least length that neighbours share.
        multiple: All starts are multiples of it, as `size` and `tile` must be.

    Returns:
        For each tile (start, end, keep_start, keep_end): the input it reads and the part of the
        axis its result fills. The first starts at 0 and the last ends at `size`, so that only the
        picture's own border is ever padded.
    """
    size, tile, overlap = size // multiple, tile // multiple, -(-overlap // multiple)
    count = 1 + -(-(size - tile) // (tile - overlap))
    starts = [i * (size - tile) // (count - 1) * multiple for i in range(count)]
    size, tile = size * multiple, tile * multiple
    cuts = [0, *((a + tile + b) // 2 for a, b in pairwise(starts)), size]
    return [(start, start + tile, *cut) for start, cut in zip(starts, pairwise(cuts), strict=True)]
