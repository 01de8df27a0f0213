"""Controls: weights that look like a critic's without knowing what it knows.

A result is believable when the critic's weights beat these: `uniform` is no weighting; `shuffled` and `random` keep the
distribution of the weights and assign them to other tokens; `solution_mean` keeps the choice of solutions and drops
that of tokens. All take the mask [B, S] of the target tokens that the policy learns, of the whole global batch, and
return fp32 weights [B, S], 0 outside the mask, without gradient.
"""

import chex
import jax
import jax.numpy as jnp

from wmtp_jax.weighting.masked import as_tokens
from wmtp_jax.weighting.token_weights import clip_to_mean_one, log_softmax_weights


def uniform_weights(mask: jax.Array) -> jax.Array:
    """1 on the mask [B, S], 0 outside: the baseline."""
    chex.assert_rank(mask, 2)
    return (jnp.asarray(mask) != 0).astype(jnp.float32)


def shuffled_weights(key: jax.Array, weights: jax.Array, mask: jax.Array) -> jax.Array:
    """The same weights [B, S] in another order: one permutation of all mask tokens of the batch, drawn uniformly."""
    weights_BxS, mask_BxS = as_tokens(weights, mask)
    outside_T = ~mask_BxS.ravel()
    noise_T = jax.random.uniform(key, outside_T.shape)
    target_T, source_T = jnp.argsort(outside_T), jnp.lexsort((noise_T, outside_T))
    shuffled_T = jnp.zeros(mask_BxS.size, jnp.float32).at[target_T].set(weights_BxS.ravel()[source_T])
    return jax.lax.stop_gradient(jnp.where(mask_BxS, shuffled_T.reshape(mask_BxS.shape), 0.0))


def random_weights(
    key: jax.Array,
    mask: jax.Array,
    *,
    mean: float | jax.Array,
    variance: float | jax.Array,
    clip: tuple[float, float] | None,
) -> jax.Array:
    """Log-normal weights with a given mean and variance, then clipped to mean 1 as a critic's weights are.

        w = exp(mu + sigma * n),  n ~ N(0, 1),   sigma^2 = ln(1 + variance / mean^2),   mu = ln(mean) - sigma^2 / 2

    Mean > 0 and variance >= 0 are those of the critic's weights, and clip is as of `token_weights`, with its errors.
    """
    mask_BxS = jnp.asarray(mask) != 0
    chex.assert_rank(mask_BxS, 2)
    mean, variance = jnp.float32(mean), jnp.float32(variance)
    log_variance = jnp.log1p(variance / (mean * mean))
    noise_BxS = jax.random.normal(key, mask_BxS.shape, jnp.float32)
    log_weights_BxS = jnp.log(mean) - 0.5 * log_variance + jnp.sqrt(log_variance) * noise_BxS
    return clip_to_mean_one(log_softmax_weights(log_weights_BxS, mask_BxS), mask_BxS, clip=clip)


def solution_mean_weights(weights: jax.Array, mask: jax.Array) -> jax.Array:
    """Every token gets the mean weight [B, S] of its solution, a row; the mean over the batch is unchanged."""
    weights_BxS, mask_BxS = as_tokens(weights, mask)
    total_Bx1 = jnp.sum(jnp.where(mask_BxS, weights_BxS, 0.0), axis=1, keepdims=True)
    mean_Bx1 = total_Bx1 / jnp.maximum(jnp.sum(mask_BxS, axis=1, keepdims=True), 1)
    return jax.lax.stop_gradient(jnp.where(mask_BxS, mean_Bx1, 0.0))
