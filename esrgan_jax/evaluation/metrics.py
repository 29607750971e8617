"""Scores of images as the super-resolution literature computes them, in NumPy.

The tables of papers (arXiv 1809.00219, supplement, Table 2) are made this way: 8-bit images, a
border of `scale` pixels left out, luma with MATLAB's constants and not rounded. PSNR and SSIM are
computed here in float64. LPIPS and NIQE, which need parameter files, have their own modules.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation.luma import rgb_to_y

SSIM_WINDOW = 11


class Metric(NamedTuple):
    """How a score is named, printed and compared.

    Attributes:
        heading: The name in tables.
        decimals: The number of decimals in tables.
        needs: What an image must have inside the border to be scored.
        better: Which scores are better: "↑" higher ones, "↓" lower ones, "→ 0" those nearer to 0.
    """

    heading: str
    decimals: int
    needs: str = "a pixel"
    better: Literal["↑", "↓", "→ 0"] = "↑"

    @property
    def arrowed(self) -> str:
        """The heading with what is better, such as "LPIPS ↓"."""
        return f"{self.heading} {self.better}"

    def rank(self, value: float) -> float:
        """Returns a number that is higher for a better score."""
        return {"↑": value, "↓": -value, "→ 0": -abs(value)}[self.better]

    def best(self, values: Iterable[float]) -> float:
        """Returns the best of several scores."""
        return max(values, key=self.rank)

    def shown(self, value: float) -> str:
        """Returns a score as printed in a table, "-" for NaN."""
        return "-" if math.isnan(value) else f"{value:.{self.decimals}f}"


METRICS = {
    "psnr_y": Metric("PSNR-Y", 2),
    "ssim_y": Metric("SSIM-Y", 4, f"{SSIM_WINDOW}x{SSIM_WINDOW} px"),
    "psnr_rgb": Metric("PSNR-RGB", 2),
    "lpips": Metric("LPIPS", 4, "31x31 px", "↓"),
    "niqe": Metric("NIQE", 2, "two blocks of 96x96 px with texture", "↓"),
    "brightness": Metric("Brightness", 2, better="→ 0"),
}
SCORES = ("psnr_y", "ssim_y", "psnr_rgb")
Score = Callable[[np.ndarray, np.ndarray], float]


def crop_border(image: np.ndarray, border: int) -> np.ndarray:
    """Returns an image (H, W, ...) without `border` pixels on each side.

    Raises:
        InputError: No pixel would be left.
    """
    height, width = image.shape[:2]
    if 2 * border >= min(height, width):
        raise InputError(
            f"an image of {width}x{height} px has nothing inside a border of {border} px; "
            "score a larger image or use a narrower border"
        )
    return image[border : height - border, border : width - border]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Returns 10 log10(255² / MSE) in dB of two arrays in 0..255; inf for equal arrays."""
    _check_shapes(a, b)
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255.0**2 / error))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the structural similarity (Wang et al. 2004) of two images; 1 for equal images.

    The settings are those of the authors' MATLAB code: a Gaussian window of 11x11 with sigma 1.5,
    weighted (biased) variances, only positions where the window fits. Channels are averaged.

    Args:
        a: (H, W) or (H, W, C) in 0..255.
        b: Another of the same shape.

    Raises:
        InputError: The shapes differ or are smaller than the window.
    """
    _check_shapes(a, b)
    height, width = a.shape[:2]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(
            f"SSIM needs {SSIM_WINDOW}x{SSIM_WINDOW} px or more inside the border, "
            f"got {width}x{height}; score a larger image"
        )
    from skimage.metrics import structural_similarity  # takes half a second to import

    value: Any = structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if a.ndim == 3 else None,
    )
    return float(value)


def load_metrics(names: Iterable[str]) -> dict[str, Score]:
    """Returns metrics by name: functions of (sr, hr), both (H, W, 3) uint8.

    Raises:
        InputError: A name is not in METRICS, or a parameter file has the wrong content.
        RunError: The parameter file of LPIPS or NIQE is missing and cannot be downloaded.
    """
    return {name: _load(name) for name in names}


def _load(name: str) -> Score:
    match name:
        case "psnr_y":
            return lambda sr, hr: psnr(rgb_to_y(sr), rgb_to_y(hr))
        case "ssim_y":
            return lambda sr, hr: ssim(rgb_to_y(sr), rgb_to_y(hr))
        case "psnr_rgb":
            return psnr
        case "lpips":
            from esrgan_jax.evaluation.lpips import load_lpips

            return load_lpips()
        case "niqe":
            from esrgan_jax.evaluation.niqe import load_niqe

            niqe = load_niqe()
            return lambda sr, _: niqe(sr)
        case "brightness":
            return lambda sr, hr: float(sr.mean() - hr.mean())
        case _:
            raise InputError(f"{name!r} is not a metric: choose from {', '.join(METRICS)}")


def scores(
    sr: np.ndarray, hr: np.ndarray, border: int, metrics: Mapping[str, Score] | None = None
) -> dict[str, float]:
    """Returns the scores of a super-resolved image.

    Args:
        sr: (H, W, 3) uint8, the result.
        hr: (H, W, 3) uint8, the reference.
        border: Pixels to leave out on each side; papers use the scale.
        metrics: From `load_metrics`; default: those of SCORES.

    Returns:
        A score for each metric, PSNR in dB; NaN if the image lacks what the metric needs.

    Raises:
        InputError: The shapes differ, or the border leaves no pixel.
    """
    _check_shapes(sr, hr)
    sr, hr = crop_border(sr, border), crop_border(hr, border)
    metrics = load_metrics(SCORES) if metrics is None else metrics
    return {name: score_or_nan(score, sr, hr) for name, score in metrics.items()}


def score_or_nan(score: Score, sr: np.ndarray, hr: np.ndarray) -> float:
    """Returns a score of images without a border; NaN if they lack what the metric needs."""
    try:
        return score(sr, hr)
    except InputError:
        return math.nan


def mean_scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the mean of each score over all images; scores without a value (NaN) are ignored."""
    return {name: _mean([row[name] for row in rows]) for name in rows[0] if name != "name"}


def _mean(values: Sequence[float]) -> float:
    valid = [value for value in values if not math.isnan(value)]
    return float(np.mean(valid)) if valid else math.nan


def _check_shapes(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape != b.shape:
        raise InputError(
            f"images of shapes {a.shape} and {b.shape} cannot be compared; "
            "resize them to one size first"
        )
