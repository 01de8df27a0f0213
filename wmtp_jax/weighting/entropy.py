"""Step 3 of the token weights: a floor under their entropy."""

import jax
import jax.numpy as jnp

from wmtp_jax.weighting.bisection import bisect
from wmtp_jax.weighting.masked import masked_mean, token_count


def _divergence_from_uniform(deviations_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """KL(p || uniform) = mean(w ln w) of p = w / T, from the deviations d = w - 1 of weights of mean 1.

    Written as mean((1 + d) ln(1 + d) - d): every term is >= 0 and exact where weights are near 1, so that nothing
    cancels however many tokens there are.
    """
    # A weight below 1e-7 adds nothing to the sum; its own logarithm would be infinite at d = -1.
    logs_BxS = jnp.log1p(jnp.maximum(deviations_BxS, -1.0 + 1e-7))
    return masked_mean((1.0 + deviations_BxS) * logs_BxS - deviations_BxS, mask_BxS)


def _largest_entropy(mask_BxS: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(token_count(mask_BxS), 1.0))


def normalized_entropy(weights_BxS: jax.Array, mask_BxS: jax.Array) -> jax.Array:
    """H(p) / ln T of p = w / T, for weights of mean 1 over T mask tokens: 1 when all are equal, 0 when one has all.

    Fewer than two tokens give 1.
    """
    largest = _largest_entropy(mask_BxS)
    divergence = _divergence_from_uniform(weights_BxS - 1.0, mask_BxS)
    return jnp.where(largest > 0, 1.0 - divergence / jnp.where(largest > 0, largest, 1.0), 1.0)


def mix_to_entropy_floor(log_weights_BxS: jax.Array, mask_BxS: jax.Array, *, floor: float) -> jax.Array:
    """Mixes the weights with the uniform ones just enough for their normalised entropy to reach a floor.

        p' = (1 - e) p + e / T,  so  w' = (1 - e) w + e,  with the smallest e in [0, 1] for which H(p') / ln T >= floor

    H is concave along the mixture and largest at its end, so it rises in e and bisection finds the e. It searches for
    the kept share 1 - e, which fp32 resolves best where it is small and one weight may be in the thousands.

    Args:
        log_weights_BxS: [B, S] fp32, logarithms of weights of mean 1.
        mask_BxS: [B, S] bool.
        floor: in [0, 1].

    Returns:
        [B, S] fp32, logarithms of weights of mean 1.
    """
    weights_BxS = jnp.exp(jnp.where(mask_BxS, log_weights_BxS, 0.0))
    most = (1.0 - floor) * _largest_entropy(mask_BxS)
    is_reached = lambda kept: _divergence_from_uniform(kept * (weights_BxS - 1.0), mask_BxS) <= most

    def mix(_):
        kept, _ = bisect(is_reached, 0.0, 1.0, tolerance=0.0)
        return jnp.log(kept * weights_BxS + (1.0 - kept))

    return jax.lax.cond(is_reached(1.0), lambda log_weights_BxS: log_weights_BxS, mix, log_weights_BxS)
