"""The mask tokens of a global batch: how arrays and settings are checked where they enter, and reductions over them."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.errors import UserError, shown


class WeightingError(UserError):
    """A setting or an input with which advantages, weights or their metrics have no meaning."""


def require(name: str, value: Any, holds: Callable[[Any], bool], expected: str) -> None:
    """Raises WeightingError unless `holds(value)`; a traced value has no number yet and is not checked."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    if all(isinstance(one, (int, float, str)) for one in values) and not holds(value):
        raise WeightingError(f"{name} is {shown(value)}, expected {expected}")


def as_tokens(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A number per token and the mask, checked: float [B, S] and [B, S] -> fp32 [B, S], bool [B, S]."""
    x, mask_BxS = jnp.asarray(x), jnp.asarray(mask) != 0
    chex.assert_rank([x, mask_BxS], 2)
    chex.assert_type(x, float)
    chex.assert_equal_shape([x, mask_BxS])
    return x.astype(jnp.float32), mask_BxS


def token_count(mask_BxS: jax.Array) -> jax.Array:
    """T, the number of mask tokens, as an fp32 scalar (exact up to 2^24)."""
    return jnp.sum(mask_BxS, dtype=jnp.int32).astype(jnp.float32)


def masked_mean(x_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """Mean of x over the mask, 0 for an empty one; x may even be NaN outside the mask."""
    return jnp.sum(jnp.where(mask_BxS, x_BxS, 0.0)) / jnp.maximum(token_count(mask_BxS), 1.0)


def masked_max(x_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """Largest x of the mask, 0 for an empty one."""
    return jnp.where(jnp.any(mask_BxS), jnp.max(jnp.where(mask_BxS, x_BxS, -jnp.inf)), 0.0)


def masked_min(x_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """Smallest x of the mask, 0 for an empty one."""
    return -masked_max(-x_BxS, mask_BxS)
