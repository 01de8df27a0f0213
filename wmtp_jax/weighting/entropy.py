"""Step 3 of the token weights: a floor under their entropy."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from wmtp_jax.weighting.bisection import bisect
from wmtp_jax.weighting.masked import masked_mean, token_count


def normalized_entropy(weights_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """H(p) / ln T of p = w / T, for weights of mean 1 over T mask tokens: 1 when all are equal, 0 when one has all.

        H(p) / ln T = 1 - mean(w ln w - w + 1) / ln T

    Every term of this mean is >= 0, so nothing cancels however many tokens there are. Fewer than two tokens give 1.
    """
    T = token_count(mask_BxS)
    divergence = masked_mean(xlogy(weights_BxS, weights_BxS) - weights_BxS + 1.0, mask_BxS)
    return jnp.where(T > 1, 1.0 - divergence / jnp.log(jnp.maximum(T, 2.0)), 1.0)


def mix_to_entropy_floor(log_weights_BxS: jax.Array, mask_BxS: jax.Array, *, floor: float) -> jax.Array:
    """Mixes the weights with the uniform ones just enough for their normalised entropy to reach a floor.

        p' = (1 - e) p + e / T,  so  w' = w + e (1 - w),  with the smallest e in [0, 1] for which H(p') / ln T >= floor

    H is concave along the mixture and largest at its end, so it rises in e and bisection finds the e.

    Args:
        log_weights_BxS: [B, S] fp32, logarithms of weights of mean 1.
        mask_BxS: [B, S] bool.
        floor: in [0, 1].

    Returns:
        [B, S] fp32, logarithms of weights of mean 1.
    """
    weights_BxS = jnp.exp(jnp.where(mask_BxS, log_weights_BxS, 0.0))
    mixed = lambda e: weights_BxS + e * (1.0 - weights_BxS)

    def mix(_):
        _, e = bisect(lambda e: normalized_entropy(mixed(e), mask_BxS) < floor, 0.0, 1.0, tolerance=0.0)
        return jnp.log(mixed(e))

    reached = normalized_entropy(weights_BxS, mask_BxS) >= floor
    return jax.lax.cond(reached, lambda log_weights_BxS: log_weights_BxS, mix, log_weights_BxS)
