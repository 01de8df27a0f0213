"""What a config field may be: a test of the value, and its description for messages."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Range(NamedTuple):
    """Attributes: holds(value), and `expected`, which completes "expected ..."."""

    holds: Callable[[Any], bool]
    expected: str


ANY = Range(lambda value: True, "anything")


def one_of(*choices: str) -> Range:
    """One of these texts."""
    return Range(lambda value: value in choices, " or ".join(choices))


def text(expected: str, pattern: str = ".+") -> Range:
    """A text that matches a regular expression; "None" is how a command line gives no value."""
    return Range(lambda value: value != "None" and re.fullmatch(pattern, value, re.DOTALL) is not None, expected)


def at_least(least: float, most: float = math.inf) -> Range:
    """A finite number from `least` on, up to `most`."""
    bounds = f"a finite number of at least {least}" if most == math.inf else f"between {least} and {most}"
    return Range(lambda value: is_number(value) and least <= value <= most, bounds)


def above(bound: float, most: float = math.inf) -> Range:
    """A finite number above a bound, up to `most`."""
    bounds = f"a finite number above {bound}" if most == math.inf else f"above {bound} and at most {most}"
    return Range(lambda value: is_number(value) and bound < value <= most, bounds)


def at_least_and_below(least: float, bound: float) -> Range:
    """A number from `least` on, below a bound."""
    return Range(lambda value: least <= value < bound, f"at least {least} and below {bound}")


def each(range_of_entry: Range, expected: str, more: Callable[[Sequence], bool] = lambda value: True) -> Range:
    """A tuple, every entry of which is in a range; `more` is asked of the whole."""
    return Range(lambda value: all(map(range_of_entry.holds, value)) and bool(more(value)), expected)


COUNT = Range(lambda value: value >= 1, "1 or more")
DEVICES = Range(lambda value: is_integer(value) and (value == -1 or value >= 1), "1 or more, or -1 for the rest")
SHARE = at_least(0, 1)
PATTERN = Range(lambda value: isinstance(value, str) and _compiles(value), "a regular expression")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
