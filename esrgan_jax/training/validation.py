"""Validation during training: scores and sample images of a held-out folder."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import jax
import numpy as np
from etils import epath

from esrgan_jax import distributed
from esrgan_jax.bucket import reached
from esrgan_jax.degradation.recipe import Recipe, degraded, image_keys
from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.metrics import (
    METRICS,
    SCORES,
    Score,
    crop_border,
    load_metrics,
    mean_scores,
    score_or_nan,
    scores,
)
from esrgan_jax.evaluation.samples import Pair, bicubic, image_paths, read_pair
from esrgan_jax.files import writing
from esrgan_jax.models.generator import Generator, Variables
from esrgan_jax.upscaling.upscaler import SCORED, Upscaler

OWED = "validation_owed"  # file with the step whose validation was stopped by a signal
SAMPLE_COUNT = 4
SAMPLE_SIZE = 256  # pixels
# HR pixels of images that are degraded at random: of smaller ones, multiples of the second number.
SQUARE, SQUARE_STEP = 512, 64


def owed(folder: epath.Path, step: int) -> bool:
    """Returns whether a stage's checkpoint of this step has not been validated yet."""
    with reached(folder):
        return (folder / OWED).exists() and (folder / OWED).read_text() == str(step)


def set_owed(folder: epath.Path, step: int | None) -> None:
    """Notes the step whose validation is still owed, None for no step; see `owed`."""
    with writing(folder / OWED), reached(folder):
        if step is None:
            (folder / OWED).unlink(missing_ok=True)
        else:
            (folder / OWED).write_text(str(step))


class Validation(NamedTuple):
    """The images to validate on, in memory, and the metrics; no pairs if no folder is set."""

    pairs: list[Pair]
    scale: int
    metrics: Mapping[str, Score]

    @classmethod
    def load(
        cls,
        hr: str | None,
        lr: str | None,
        scale: int,
        recipe: Recipe | None = None,
        metrics: Iterable[str] = SCORES,
    ) -> Self:
        """Reads a folder of HR images and of LR images, and loads metrics of METRICS.

        Without an LR folder, LR is MATLAB's bicubic. With a recipe, it is a square from the middle
        of the image, degraded with the same random numbers in every run.

        Raises:
            InputError: As `image_paths`, `read_pair` and `load_metrics`, or no image has what a
                metric needs.
            RunError: As `load_metrics`.
        """
        if not hr:
            return cls([], scale, {})
        loaded = load_metrics(metrics)
        paths = image_paths(Path(hr), Path(lr) if lr else None, scale)
        pairs = [read_pair(*pair, scale) for pair in paths]
        if recipe and not lr:
            pairs = _degraded(pairs, recipe, scale)
        _check_scored(pairs, scale, loaded)
        return cls(pairs, scale, loaded)

    def run(
        self,
        generator: Generator,
        variables: Variables,
        stopped: Callable[[], object] = lambda: False,
    ) -> tuple[dict[str, float], dict[str, np.ndarray]] | None:
        """Upscales all images; the scores are those of `esrgan_jax.evaluate`, on any device.

        Of several processes, each upscales its share, and all return the means of all images. The
        first images are process 0's, which writes the samples.

        Args:
            generator: The module.
            variables: Its variables.
            stopped: Called before each image; a true value stops the validation.

        Returns:
            The means, such as {"val_psnr_y", "val_lpips"}, without those that no image has; and by
            name the centres of the first images: bicubic, SR and HR next to each other. None if it
            was stopped.
        """
        upscale = Upscaler(generator, variables, **SCORED)
        rows, samples, stops = [], {}, False
        for pair in self.pairs[_share(len(self.pairs), jax.process_index(), jax.process_count())]:
            if stops := bool(stopped()):
                break
            sr = upscale(pair.lr)
            rows.append(scores(sr, pair.hr, self.scale, self.metrics))
            if len(samples) < SAMPLE_COUNT:
                panels = (bicubic(self.scale)(pair.lr), sr, pair.hr)
                name = f"{Path(pair.name).stem}.png"
                while name in samples:  # from another folder, or of another format
                    name = f"_{name}"
                samples[name] = np.concatenate([_middle(p) for p in panels], axis=1)
        shares = distributed.gather(None if stops else rows)
        if None in shares:
            return None
        means = mean_scores([row for share in shares for row in share]).items()
        return {f"val_{name}": mean for name, mean in means if not math.isnan(mean)}, samples


def _share(total: int, index: int, count: int) -> slice:
    """Returns the images of a process; process 0's are the first, and include all samples."""
    first = min(total, max(SAMPLE_COUNT, -(-total // count)))
    if index == 0:
        return slice(first)
    start, end = (first + (total - first) * n // (count - 1) for n in (index - 1, index))
    return slice(start, end)


def _check_scored(pairs: list[Pair], scale: int, metrics: Mapping[str, Score]) -> None:
    """Raises InputError if a metric has no value for any of the HR images."""
    for name, metric in metrics.items():
        inner = (crop_border(pair.hr, scale) for pair in pairs)
        if all(math.isnan(score_or_nan(metric, hr, hr)) for hr in inner):
            raise InputError(
                f"no image of data.val can have the metric {name}, which needs "
                f"{METRICS[name].needs} inside a border of {scale} px: take larger images, or "
                "leave it out of metrics"
            )


def _degraded(pairs: list[Pair], recipe: Recipe, scale: int) -> list[Pair]:
    """Returns pairs of squares, of few sizes, since each size is compiled anew."""
    whole = recipe._replace(margin=0)  # photographs have borders, too
    keys = image_keys(0, 0, len(pairs))
    one = jax.jit(partial(degraded, whole, scale=scale))
    found = []
    for key, pair in zip(keys, pairs, strict=True):
        side = min(SQUARE, *pair.hr.shape[:2])
        side = (side // SQUARE_STEP * SQUARE_STEP or side) // scale * scale
        lr, hr, _ = one(key[None], hr=_middle(pair.hr, side)[None])
        levels = [np.round(np.asarray(image[0]) * 255).astype(np.uint8) for image in (lr, hr)]
        found.append(Pair(pair.name, *levels))
    return found


def _middle(image: np.ndarray, side: int = SAMPLE_SIZE) -> np.ndarray:
    top, left = (max(size - side, 0) // 2 for size in image.shape[:2])
    return image[top : top + side, left : left + side]
