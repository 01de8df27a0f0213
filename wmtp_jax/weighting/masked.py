"""Reductions over the mask tokens of a global batch, in fp32; an empty mask gives 0, never NaN."""

import jax
import jax.numpy as jnp


def token_count(mask: jax.Array) -> jax.Array:
    """T, the number of mask tokens, as an fp32 scalar (exact up to 2^24)."""
    return jnp.sum(mask, dtype=jnp.int32).astype(jnp.float32)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of x over the mask; what stands outside the mask may even be NaN."""
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.maximum(token_count(mask), 1.0)


def masked_max(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Largest x inside the mask."""
    return jnp.where(jnp.any(mask), jnp.max(jnp.where(mask, x, -jnp.inf)), 0.0)


def masked_min(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Smallest x inside the mask."""
    return -masked_max(-x, mask)
