"""Validation during training: scores and sample images of a held-out folder."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from esrgan_jax.evaluation.metrics import mean_scores, scores
from esrgan_jax.evaluation.samples import Pair, bicubic, image_paths, read_pair
from esrgan_jax.models.generator import Generator, Variables
from esrgan_jax.upscaling.upscaler import SCORED, Upscaler

SAMPLE_COUNT = 4
SAMPLE_SIZE = 256  # pixels


class Validation(NamedTuple):
    """The images to validate on, in memory; no pairs if no folder is set."""

    pairs: list[Pair]
    scale: int

    @classmethod
    def load(cls, hr: str | None, lr: str | None, scale: int) -> Self:
        """Reads a folder of HR images; without an LR folder, LR is MATLAB's bicubic.

        Raises:
            InputError: As `evaluation.image_paths` and `evaluation.read_pair`.
        """
        if not hr:
            return cls([], scale)
        paths = image_paths(Path(hr), Path(lr) if lr else None, scale)
        return cls([read_pair(*pair, scale) for pair in paths], scale)

    def run(
        self,
        generator: Generator,
        variables: Variables,
        stopped: Callable[[], object] = lambda: False,
    ) -> tuple[dict[str, float], dict[str, np.ndarray]] | None:
        """Upscales all images; the scores are those of `esrgan_jax.evaluate`, on any device.

        Args:
            generator: The module.
            variables: Its variables.
            stopped: Called before each image; a true value stops the validation.

        Returns:
            The means {"val_psnr_y", "val_ssim_y", "val_psnr_rgb"}, and by name the centres of the
            first images: bicubic, SR and HR next to each other. None if it was stopped.
        """
        upscale = Upscaler(generator, variables, **SCORED)
        rows, samples = [], {}
        for pair in self.pairs:
            if stopped():
                return None
            sr = upscale(pair.lr)
            rows.append(scores(sr, pair.hr, self.scale))
            if len(samples) < SAMPLE_COUNT:
                panels = (bicubic(self.scale)(pair.lr), sr, pair.hr)
                samples[pair.name] = np.concatenate([_middle(p) for p in panels], axis=1)
        return {f"val_{name}": score for name, score in mean_scores(rows).items()}, samples


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(size - SAMPLE_SIZE, 0) // 2 for size in image.shape[:2])
    return image[top : top + SAMPLE_SIZE, left : left + SAMPLE_SIZE]
