"""The settings of Real-ESRGAN's random degradations, with the published values and names."""

from collections.abc import Mapping
from typing import NamedTuple

from esrgan_jax.degradation.kernels import SIZE
from esrgan_jax.errors import InputError
from esrgan_jax.setting_rule import Rule, nonnegative, one_of

SMALLEST = 7  # kernel
KERNELS = (
    "iso",
    "aniso",
    "generalized_iso",
    "generalized_aniso",
    "plateau_iso",
    "plateau_aniso",
)
Range = tuple[float, float]


class RealESRGAN(NamedTuple):
    """The values of options/train_realesrnet_x4plus.yml and train_realesrgan_x4plus.yml.

    They are the same in both files, and in those of x2. A "2" at the end stands for the second
    order. `clean_prob` is ours. Constants of the published code that are no options there are in
    draws.py.

    Attributes:
        blur_kernel_size: The largest kernel; sizes are the odd numbers from 7 on.
        kernel_list: Kinds of kernels that are not sinc.
        kernel_prob: The share of each.
        sinc_prob: Probability of a sinc kernel instead.
        blur_sigma: Range of deviations in pixels.
        betag_range: Range of exponents of generalised Gaussians, half of them below 1.
        betap_range: Range of exponents of plateaus.
        resize_prob: Shares of enlarging, reducing and keeping the size.
        resize_range: Range of sizes, 1 being that of HR and in the second order that of LR.
        gaussian_noise_prob: Probability of Gaussian noise; otherwise it is Poisson noise.
        noise_range: Range of deviations of Gaussian noise in levels of 255.
        poisson_scale_range: Range of factors of Poisson noise.
        gray_noise_prob: Probability of noise that is the same in all channels.
        jpeg_range: Range of JPEG qualities.
        second_blur_prob: Probability of the second blur.
        final_sinc_prob: Probability of the last sinc filter.
        clean_prob: Probability of MATLAB's bicubic alone, which the published training never has.
    """

    blur_kernel_size: int = 21
    kernel_list: tuple[str, ...] = KERNELS
    kernel_prob: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_prob: float = 0.1
    blur_sigma: Range = (0.2, 3.0)
    betag_range: Range = (0.5, 4.0)
    betap_range: Range = (1.0, 2.0)
    resize_prob: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    gaussian_noise_prob: float = 0.5
    noise_range: Range = (1.0, 30.0)
    poisson_scale_range: Range = (0.05, 3.0)
    gray_noise_prob: float = 0.4
    jpeg_range: Range = (30.0, 95.0)

    second_blur_prob: float = 0.8
    blur_kernel_size2: int = 21
    kernel_list2: tuple[str, ...] = KERNELS
    kernel_prob2: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc_prob2: float = 0.1
    blur_sigma2: Range = (0.2, 1.5)
    betag_range2: Range = (0.5, 4.0)
    betap_range2: Range = (1.0, 2.0)
    resize_prob2: tuple[float, float, float] = (0.3, 0.4, 0.3)
    resize_range2: Range = (0.3, 1.2)
    gaussian_noise_prob2: float = 0.5
    noise_range2: Range = (1.0, 25.0)
    poisson_scale_range2: Range = (0.05, 2.5)
    gray_noise_prob2: float = 0.4
    jpeg_range2: Range = (30.0, 95.0)

    final_sinc_prob: float = 0.8
    clean_prob: float = 0.0


def check(settings: RealESRGAN, where: str = "degradation") -> None:
    """Raises InputError, which names a setting, if the settings are not allowed together."""
    for order in ("", "2"):
        names, shares = f"kernel_list{order}", f"kernel_prob{order}"
        kinds, probabilities = getattr(settings, names), getattr(settings, shares)
        if len(kinds) != len(probabilities):
            raise InputError(
                f"{where}.{shares} has {len(probabilities)} numbers: give one for each of the "
                f"{len(kinds)} kernels of {where}.{names}"
            )


def _span(least: float, most: float, around: float | None = None) -> Rule:
    """Two numbers, from the least to the greatest, with `around` between them."""
    text = f"two numbers in brackets, the lower first, from {least:g} to {most:g}"
    text += "" if around is None else f", with {around:g} between them"

    def fits(value: object) -> bool:
        if not (_are_numbers(value) and isinstance(value, tuple | list) and len(value) == 2):
            return False
        low, high = value
        inside = least <= low <= high <= most
        return inside and (around is None or low <= around <= high)

    return Rule(text, fits)


def _are_numbers(value: object) -> bool:
    return isinstance(value, tuple | list) and all(map(nonnegative().fits, value))


def _shares(count: int | None, of: str) -> Rule:
    """A number of 0 or more for each of `count` choices, or of as many as there are."""
    return Rule(
        f"numbers of 0 or more in brackets, one for each of {of}, and not all 0",
        lambda value: (
            _are_numbers(value)
            and isinstance(value, tuple | list)
            and count in (None, len(value))
            and sum(value) > 0
        ),
    )


_PROBABILITY = Rule(
    "a probability, 0 to 1", lambda value: nonnegative().fits(value) and 0 <= float(str(value)) <= 1
)
_ORDER = {
    "blur_kernel_size": one_of(*range(SMALLEST, SIZE + 1, 2)),
    "kernel_list": Rule(
        f"some of {', '.join(KERNELS)}, in brackets",
        lambda value: (
            isinstance(value, tuple | list) and len(value) > 0 and all(v in KERNELS for v in value)
        ),
    ),
    "kernel_prob": _shares(None, "the kernels"),
    "sinc_prob": _PROBABILITY,
    "blur_sigma": _span(0.01, 100),
    "betag_range": _span(0.1, 10, around=1),
    "betap_range": _span(0.1, 10, around=1),
    "resize_prob": _shares(3, "larger, smaller and the same"),
    "resize_range": _span(0.01, 4, around=1),
    "gaussian_noise_prob": _PROBABILITY,
    "noise_range": _span(0, 255),
    "poisson_scale_range": _span(0, 100),
    "gray_noise_prob": _PROBABILITY,
    "jpeg_range": _span(1, 100),
}
RULES: Mapping[str, Rule] = {
    **_ORDER,
    **{f"{name}2": rule for name, rule in _ORDER.items()},
    "second_blur_prob": _PROBABILITY,
    "final_sinc_prob": _PROBABILITY,
    "clean_prob": _PROBABILITY,
}
