"""The root of a rising function between two bounds."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def bisect(
    is_below: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array, *, tolerance: float
) -> tuple[jax.Array, jax.Array]:
    """Halves [low, high] until it is narrower than the tolerance, or its ends are neighbouring floats.

    Args:
        is_below: true where the argument lies below the root; true at `low`, false at `high`.
        low: fp32 scalar.
        high: fp32 scalar.
        tolerance: width at which to stop; 0 for full fp32 resolution.

    Returns:
        (low, high): the bracket around the root.
    """
    middle = lambda bracket: 0.5 * bracket[0] + 0.5 * bracket[1]

    def unfinished(bracket):
        between = (bracket[0] < middle(bracket)) & (middle(bracket) < bracket[1])
        return between & (bracket[1] - bracket[0] > tolerance)

    def halve(bracket):
        x, (low, high) = middle(bracket), bracket
        below = is_below(x)
        return jnp.where(below, x, low), jnp.where(below, high, x)

    return jax.lax.while_loop(unfinished, halve, (jnp.float32(low), jnp.float32(high)))
