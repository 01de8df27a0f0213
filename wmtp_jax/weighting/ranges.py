"""Settings of the weighting functions are checked where they enter, in words for the person who set them."""

from collections.abc import Callable
from typing import Any

from wmtp_jax.errors import UserError


class WeightingError(UserError):
    """A setting or an input with which advantages, weights or their metrics have no meaning."""


def require(name: str, value: Any, holds: Callable[[Any], bool], expected: str) -> None:
    """Refuses a setting out of its range.

    Only plain numbers, strings and tuples are checked: a traced value has no number yet.

    Raises:
        WeightingError: `holds(value)` is false.
    """
    parts = value if isinstance(value, (tuple, list)) else (value,)
    if all(isinstance(part, (int, float, str)) for part in parts) and not holds(value):
        raise WeightingError(f"{name} is {value!r}, expected {expected}")


def require_discounts(gamma, lambda_) -> None:
    """Refuses a discount or a GAE lambda outside [0, 1]."""
    require("gamma", gamma, lambda g: 0 <= g <= 1, "a discount from 0 to 1 (1.0 when values are probabilities)")
    require("lambda_", lambda_, lambda mixing: 0 <= mixing <= 1, "a mixing parameter from 0 to 1 (0.95 is usual)")


def require_clip(clip: tuple[float, float] | None) -> None:
    """Refuses bounds between which no weights of mean 1 exist."""
    require(
        "clip",
        clip,
        lambda bounds: len(bounds) == 2 and 0 <= bounds[0] < 1 < bounds[1],
        "two bounds (min, max) with 0 <= min < 1 < max, or None for no clip",
    )
