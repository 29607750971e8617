"""What a setting of a config may be: rules with a text for messages."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import NamedTuple, TypeGuard

LARGEST_INT, HUGE = 2**31 - 1, 1e38  # of int32 and float32, as the devices compute


class Rule(NamedTuple):
    """What a setting may be.

    Attributes:
        what: What may be taken, for messages and --help.
        fits: Whether a value may be taken.
    """

    what: str
    fits: Callable[[object], bool]


def whole(least: int = 0, most: int | None = None) -> Rule:
    """A whole number from `least` to `most`, or to the largest int32."""
    text = f"{least} or more" if most is None else f"{least} to {most}"
    end = LARGEST_INT if most is None else most
    return Rule(f"a whole number, {text}", lambda value: is_whole(value) and least <= value <= end)


def nonnegative(below: float = HUGE) -> Rule:
    """A finite number from 0 to less than `below`."""
    text = "0 or more" if below == HUGE else f"0 or more, below {below:g}"
    return Rule(f"a number, {text}", lambda value: _is_real(value) and 0 <= value < below)


def one_of(*choices: object) -> Rule:
    """One of some values, and of their type: True is not taken for 1."""
    types = tuple(map(type, choices))
    return Rule(
        f"one of {', '.join(map(str, choices))}",
        lambda value: type(value) in types and value in choices,
    )


def optional(rule: Rule) -> Rule:
    """What the rule takes, or None."""
    return Rule(f"{rule.what}, or none", lambda value: value is None or rule.fits(value))


TEXT = Rule("a text", lambda value: isinstance(value, str))
PATH = Rule("a path, or none", lambda value: value is None or isinstance(value, str))
FLAG = Rule("True or False", lambda value: isinstance(value, bool))


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, of Python or NumPy, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
